"""Manifolds, descent on them, and the flows of it: parameters that stay on a surface."""
