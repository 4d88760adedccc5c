"""From list rows to Kinetics-710: align, hold out, deduplicate, purge, and say why."""
