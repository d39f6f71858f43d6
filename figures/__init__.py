"""Figures of a results store: each takes an xarray DataTree and returns a matplotlib figure."""
