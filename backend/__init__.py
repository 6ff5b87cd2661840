"""Preparing data, training SeqSetVAE, watching its posterior. Start with `python -m backend --help`."""
