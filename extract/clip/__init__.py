"""Frozen CLIP: its weights, its two towers, what they make of frames and sentences."""
