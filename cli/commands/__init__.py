"""The commands of `r2t`, one file each."""
