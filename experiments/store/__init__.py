"""The results store: a zarr group for each trajectory, appended to while a run goes on."""
