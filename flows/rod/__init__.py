"""Rod Flow: pairs of consecutive iterates as rods around a centre (arXiv 2602.01480, 2605.06821).

The state comes as a covariance or as a low-rank factor of it (`state`); `equation` is the
right-hand side, `flow` its public face, `solver` and `stepper` integrate it, and `observables` is
what it predicts.
"""
