"""The bytes of one clip, from tars, folders and remote copies."""
