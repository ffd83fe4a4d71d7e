"""Sphinx settings."""

from importlib import metadata
from pathlib import Path

import jupytext

project = "sciprob"
author = "The sciprob developers"
release = metadata.version("sciprob")
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
html_theme = "alabaster"
html_theme_options = {
    "description": "Posteriors for scientific computing",
    "fixed_sidebar": True,
    "page_width": "1240px",
    "body_max_width": "none",  # tables are wide
}
autodoc_typehints = "description"
autodoc_member_order = "bysource"


def _escape_bars(*arguments):
    """Docstrings are plain text, where bars mean absolute values and not substitutions of reStructuredText."""
    lines = arguments[-1]
    lines[:] = [line.replace("|", r"\|") for line in lines]


def _tutorial(app, docname, source):
    """Pages in `tutorials/` are the scripts of that name: prose, code and, where there is one, the picture it draws."""
    folder, _, name = docname.rpartition("/")
    if folder != "tutorials":
        return
    script = Path(__file__).parents[1] / "tutorials" / f"{name}.py"
    app.env.note_dependency(str(script))
    text = jupytext.writes(jupytext.read(script, fmt="py:percent"), fmt="md")
    text = text.split("---\n", 2)[-1]  # without its header
    if (Path(__file__).parent / "images" / "tutorials" / f"{name}.png").exists():
        text += f"\n\n![What the script draws, here in the small size of the tests](../images/tutorials/{name}.png)\n"
    source[0] = text


def setup(app):
    """Register the hooks; the one for docstrings after napoleon has read the sections."""
    app.connect("autodoc-process-docstring", _escape_bars, priority=900)
    app.connect("source-read", _tutorial)
