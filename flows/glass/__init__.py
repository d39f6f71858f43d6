"""Gradient glass: the curvature that a Hessian does not see, and an optimizer that uses it."""
