"""A manifest in the forms of other tools, and its card."""
