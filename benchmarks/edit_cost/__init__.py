"""The parts of `benchmarks/edit.py`."""
