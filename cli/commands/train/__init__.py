"""`r2t train`: from a feature store to a model."""
