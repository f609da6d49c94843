"""Sphinx's settings for the documentation site. ``scripts/docs`` builds it; it loads nothing from the network."""

from __future__ import annotations

from kong_pdk import __version__

project = "kong-python"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
# Links to headings work as on code hosts: `operator.md#the-log`.
myst_heading_anchors = 4
# `--dump` must keep its two hyphens.
smartquotes = False

autodoc_member_order = "bysource"
add_module_names = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 110
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = f"kong-python {version}"
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
