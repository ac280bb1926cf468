"""Scores, calibration, thresholds and ensembles: arrays in, arrays out."""
