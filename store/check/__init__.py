"""Whether a store is whole, and what is in it."""
