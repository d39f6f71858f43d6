"""Runs: `simulate` integrates a flow, `iterate` repeats an optimizer, both in compiled segments.

`simulate` and `iterate` check their arguments (`arguments`) and hold the loop over segments;
`segments` keeps what they return and joins it to a trajectory, `simulation` compiles the segment of
a flow, `progress` shows how far a run is. Everything else of this package lies below this room.
"""
