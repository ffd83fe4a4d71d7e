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


def _escape_bars(*arguments):
    """Docstrings are plain text, where bars mean absolute values and not substitutions of reStructuredText."""
    lines = arguments[-1]
    lines[:] = [line.replace("|", r"\|") for line in lines]


def setup(app):
    """Register the hook, after napoleon has read the sections."""
    app.connect("autodoc-process-docstring", _escape_bars, priority=900)
