"""The manifest: its schema, how it is written, committed and read."""
