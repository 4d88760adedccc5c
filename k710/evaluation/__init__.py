"""From a checkpoint and clips to scores, accuracy and predictions."""
