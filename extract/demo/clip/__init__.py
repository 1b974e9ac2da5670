"""Data only: a tiny CLIP trained on the demo world, in open_clip's own format."""
