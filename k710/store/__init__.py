"""Media at rest: the files of a store and what is in them."""
