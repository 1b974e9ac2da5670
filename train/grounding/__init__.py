"""A trained model asked: one video, a store, a long video in windows."""
