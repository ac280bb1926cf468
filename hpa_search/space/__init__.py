"""The search file: dimensions, settings, and reading them."""
