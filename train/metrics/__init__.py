"""The benchmarks' evaluators, and how sure their scores are."""
