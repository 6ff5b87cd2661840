"""What backend and dashboard agree on: the run directory, its schema, its reader and writer, and the verdict rules."""
