"""Readers of the official lists of other data sets, one file for each form."""
