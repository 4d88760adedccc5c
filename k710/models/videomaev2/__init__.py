"""VideoMAE V2 (Wang et al., 2023)."""
