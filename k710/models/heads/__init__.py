"""The last linear layer: found, named, remapped by class name."""
