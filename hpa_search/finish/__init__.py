"""The final stage of a search: ensemble, thresholds, an honest number, the bundle, and the submission."""
