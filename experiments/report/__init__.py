"""What is made of a store: summary tables, figures, exports."""
