"""What a user sees of a run: progress bars, loggers, the terminal. Every tag: `docs/monitoring.md`."""
