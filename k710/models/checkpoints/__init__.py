"""Checkpoint files: recognised and read, never unpickled unsafely."""
