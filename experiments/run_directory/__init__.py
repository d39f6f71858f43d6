"""A run directory: its files, when it may be used, and the checkpoints in it."""
