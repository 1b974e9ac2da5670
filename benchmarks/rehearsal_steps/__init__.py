"""The steps of `benchmarks/rehearsal.py`: small copies of the datasets, commands, and counts."""
