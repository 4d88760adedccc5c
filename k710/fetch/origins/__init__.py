"""Where clips come from: local folders, the public archives, YouTube."""
