"""How flows compare with the optimizer: distances, oscillation, landscape."""
