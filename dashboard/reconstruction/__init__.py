"""What the decoder makes of the records."""
