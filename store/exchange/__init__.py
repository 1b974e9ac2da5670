"""Features in other programs' files, in and out."""
