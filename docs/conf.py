"""Sphinx settings."""

from importlib import metadata

project = "sciprob"
author = "The sciprob developers"
release = metadata.version("sciprob")
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
exclude_patterns = ["_build"]
html_theme = "alabaster"
html_theme_options = {"description": "Posteriors for scientific computing", "fixed_sidebar": True}
autodoc_typehints = "description"
autodoc_member_order = "bysource"
