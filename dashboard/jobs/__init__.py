"""Programs started from the pages: a queue on the disk."""
