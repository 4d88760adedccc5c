"""From a manifest to media: find the clips, cut, encode and check them, and put them into a store."""
