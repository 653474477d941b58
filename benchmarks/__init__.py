"""Figures that must hold, one file a benchmark: ``python -m benchmarks.NAME [--quick] [--json]``."""
