"""How Sphinx builds these pages."""

from importlib.metadata import version as version_of
from typing import Any

project = "outlast"
author = "The outlast authors"
version = release = version_of("outlast")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "outlast"
html_show_sourcelink = False
html_show_copyright = False

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

# Docstrings mark code with single backticks, as Markdown does.
default_role = "code"
# An attribute that two classes have is no link, and need not be one.
suppress_warnings = ["ref.python"]
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88

# What `outlast` makes and hands out: how it is made is nobody's business.
HANDED_OUT = {"App", "Flag", "Runs", "Step", "Task", "TaskContext", "TaskRun"}


def hide_how_it_is_made(_app: Any, what: str, name: str, *_: Any) -> tuple[str, None] | None:
    """Show a class that nobody else makes without the arguments that make it."""
    return ("", None) if what == "class" and name.rpartition(".")[2] in HANDED_OUT else None


def setup(app: Any) -> None:
    """Tell Sphinx."""
    app.connect("autodoc-process-signature", hide_how_it_is_made)
