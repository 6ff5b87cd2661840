"""News of runs: toasts, a webhook, a command."""
