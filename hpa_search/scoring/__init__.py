"""Scores, calibration, thresholds and ensembles. All functions take and return arrays."""
