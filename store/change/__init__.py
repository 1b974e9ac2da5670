"""Stores changed or made from others, whole or not at all."""
