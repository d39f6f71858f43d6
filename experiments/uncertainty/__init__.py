"""Uncertainty of trained networks: approximate posteriors, and metrics of their predictions."""
