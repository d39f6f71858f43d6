"""Edge Flow: the centre, the direction and the length of one oscillation (a reconstruction)."""
