"""Solvers of ordinary differential equations, beside those of diffrax."""
