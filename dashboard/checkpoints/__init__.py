"""Checkpoints of a run, and what is in them."""
