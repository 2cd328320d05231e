"""Measurements behind `docs/results.md`: `python -m benchmarks.NAME`."""
