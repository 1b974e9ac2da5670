"""What `benchmarks/ablations.py` trains, on which stores, and how it sums up the scores."""
