"""Discrete optimizers, and their maps on phase space."""
