"""The largest budget of a search, in its file or in one extension. Imports nothing: the command line reads it at its start."""

MOST_TRIALS = 100_000
MOST_HOURS = 10_000
MOST_EPOCHS = 100_000_000
