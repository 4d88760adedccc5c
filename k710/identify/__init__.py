"""Whose clips a list, a folder or a store holds: releases, copies, fingerprints and contamination."""
