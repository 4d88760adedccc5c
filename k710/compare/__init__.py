"""The accuracies of several evaluations on the clips that all of them have, and what the other clips could change."""
