"""Dissipative Riemannian mechanics (arXiv 2605.15459)."""
