"""What is measured along a trajectory, and how well a flow tracks an optimizer.

A measurement (`base`, `loss`, `curvature`) is made inside the compiled loop of a run, or along any
path of parameters (`along_path`). `tracking` compares a flow with the optimizer that it models, and
`cycles` says which cycle a discrete path has settled on.
"""
