"""UniFormerV2 (arXiv 2211.09552): configuration, model, cost."""
