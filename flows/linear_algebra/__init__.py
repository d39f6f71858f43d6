"""Symmetric eigenproblems and complementarity problems, with no knowledge of losses."""
