"""The final stage of a search: choose an ensemble, export it, and measure it."""
