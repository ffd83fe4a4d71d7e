"""Files: posteriors, meshes, measurements, tables for other programs."""
