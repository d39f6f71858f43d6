"""Summary tables, figures and exports, all made from a results store."""
