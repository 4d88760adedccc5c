"""Training and evaluation: plain PyTorch, from a manifest's clips to a checkpoint and a number."""
