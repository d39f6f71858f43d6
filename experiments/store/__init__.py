"""The results store: a zarr group for each trajectory, appended to as a run goes."""
