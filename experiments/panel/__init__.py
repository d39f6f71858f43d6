"""The panel: every flow that models an optimizer on the same cases, from the same starts.

`cases` has the problems, `contestants` the flows, `comparison` runs one case, and `measures` has
the numbers that are taken of each run.
"""
