"""One run while it goes on: its header, its charts, and parts of them."""
