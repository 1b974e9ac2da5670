"""Data only: a run trained on the demo world, as `r2t train` leaves it, and where it comes from."""
