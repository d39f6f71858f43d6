"""What every room builds on: flows, optimizers, trajectories, parameters, costs."""
