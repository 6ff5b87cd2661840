"""The browser side: runs, live metrics, verdicts. Start with `python -m dashboard --help`."""
