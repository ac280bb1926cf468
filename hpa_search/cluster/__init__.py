"""Searches as jobs on a Ray cluster that is reached by its dashboard alone (Ray's Jobs API)."""
