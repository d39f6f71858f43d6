"""Measured speed and memory: ratios of two things measured in one run, and seconds to compile."""
