"""What a user sees of a run: progress bars, TensorBoard, hyper-parameters, the terminal. Every tag: `docs/monitoring.md`."""
