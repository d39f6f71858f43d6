"""The machine that a run is on: files, memory, signals, progress, and errors for people."""
