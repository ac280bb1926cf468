"""The final stage on predictions that were made anywhere: choose an ensemble, and label rows with it."""
