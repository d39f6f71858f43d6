"""Central Flow (arXiv 2410.24206)."""
