"""The R² Block's fast arithmetic: the same numbers, a tile of frames at a time."""
