"""From a file of video to the media of one clip: cut, encode, check."""
