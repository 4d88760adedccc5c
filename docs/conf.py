"""The documentation site: `make docs` builds it from the pages of the repository, and a dead link fails."""

project = "k710"
author = "The k710 developers"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
# The source folder is the repository: pages link to one another as they do on GitHub.
include_patterns = [
    "docs/*.md",
    "manifests/README.md",
    "examples/README.md",
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
]
root_doc = "docs/index"
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]
# Consoles, lists and annotation lines are no programs.
highlight_language = "none"
default_role = "code"  # docstrings have Markdown's single backticks
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
html_theme = "furo"
html_title = "k710"
