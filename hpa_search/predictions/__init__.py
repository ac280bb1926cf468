"""The final stage on predictions that were made anywhere: an ensemble of them, and labels by it."""
