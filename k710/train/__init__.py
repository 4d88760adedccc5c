"""Training in plain PyTorch, from a manifest's clips to a checkpoint."""
