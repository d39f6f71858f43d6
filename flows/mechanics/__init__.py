"""Dissipative mechanics: particles that slide on the loss with gravity and friction.

`flow` is the law of motion, `friction` the laws that damp it, `geodesics` the motion without both.
`sampling` throws particles from a trained point until they rest on the set of minima, each of them
as `settling` integrates it.
"""
