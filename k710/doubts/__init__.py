"""Clips whose label something contradicts: a model, another release, or the same footage under another ID."""
