"""How a model is trained: the loop, its processes, its interruptions."""
