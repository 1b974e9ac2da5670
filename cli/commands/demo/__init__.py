"""`r2t demo`: the whole way from videos to moments, offline."""
