"""The centre of a rolling ball (arXiv 2505.19527)."""
