"""The tests: one folder per package, mirroring the source."""
