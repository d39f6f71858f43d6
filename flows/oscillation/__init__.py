"""The parity flow: centre and half-difference of an oscillation of period two."""
