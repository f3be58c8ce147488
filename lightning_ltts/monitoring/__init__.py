"""What a user sees of a run: progress bars, TensorBoard, the terminal. Every tag: `docs/monitoring.md`."""
