"""Features to moments: the model, its training, and what it says about a video."""
