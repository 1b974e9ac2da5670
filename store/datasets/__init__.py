"""The datasets' own annotation files, read and checked: one reader a format."""
