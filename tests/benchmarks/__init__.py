"""Repeatable measurements: `python -m tests.benchmarks NAME`."""
