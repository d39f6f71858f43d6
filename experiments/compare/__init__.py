"""How flows compare with the optimizer: distances, oscillation, and the landscape around both.

Pure functions of arrays and trajectories: single runs and vmapped batches use the same ones, and
`Comparison` puts what they give among a trajectory's observables, with units and descriptions.
"""
