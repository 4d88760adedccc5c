"""Annotation lists and label maps: from files to checked rows."""
