"""`r2t extract`: from videos and annotations to a feature store."""
