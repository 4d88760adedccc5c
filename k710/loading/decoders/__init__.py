"""From the bytes of a clip to frames."""
