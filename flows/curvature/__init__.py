"""Derivatives of a loss and the top of its Hessian."""
