"""From a store to batches, as fast as a model takes them."""
