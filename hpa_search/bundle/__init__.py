"""The exported ensemble, and predictions with it."""
