"""Published models and their checkpoints. Nothing is imported here, since every part of it needs torch."""
