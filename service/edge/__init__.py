"""What every request passes before the application: keys, limits, numbers, and the log."""
