"""Problems: kinds, their registry, and what a problem is made of."""
