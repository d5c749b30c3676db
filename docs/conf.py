"""How Sphinx builds these pages: ``sphinx-build -W docs docs/_build``."""

from importlib.metadata import version as _version

project = "echoproto"
author = "the echoproto contributors"
copyright = "the echoproto contributors"  # noqa: A001 (Sphinx's name)
release = version = _version("echoproto")

# napoleon reads the sections (Args, Returns) of docstrings.
extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "alabaster"
autodoc_member_order = "bysource"
autodoc_typehints = "description"
