"""Measured speed and memory: each row of the table is a ratio of two things measured in one run."""
