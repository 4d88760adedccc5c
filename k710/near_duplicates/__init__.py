"""Clips whose pictures repeat although their YouTube IDs differ: frames → hashes → signatures → candidates → align →
groups → apply."""
