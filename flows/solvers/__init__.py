"""Solvers, step-size controllers and what diffrax needs to integrate a flow in segments.

`projection` keeps the state of a projected flow on its surface and says what a solver made for one
kind of flow must offer; `chebyshev` is a stabilised solver; `controllers` and `choice` decide how
steps adapt and which solver, controller and adjoint a run uses; `field` sets the clock of a
segment; `counting` turns solver steps into costs.
"""
