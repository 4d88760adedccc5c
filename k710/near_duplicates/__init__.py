"""Clips with the same footage under different YouTube IDs.

The steps: frames → hashes → signatures → candidates → align → groups → apply.
"""
