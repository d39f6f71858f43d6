"""Running an experiment or a study."""
