"""Sphinx: Markdown pages, and the reference from the docstrings."""

from importlib.metadata import version as _version

project = "aiomos"
release = version = _version("aiomos")
project_copyright = "the aiomos authors"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
exclude_patterns = ["_build", "dev_notes.md", "decisions/0000-template.md"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "mixed"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = f"aiomos {release}"
