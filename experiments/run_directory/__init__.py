"""What lies in a run directory, and when it may be used."""
