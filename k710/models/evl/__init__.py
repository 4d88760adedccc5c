"""EVL: a frozen CLIP image tower, and a decoder of a few layers that is trained on its tokens."""
