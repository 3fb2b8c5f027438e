"""The parts of `benchmarks/loss.py`."""
