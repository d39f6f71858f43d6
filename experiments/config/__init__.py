"""From a TOML file to the objects that run."""
