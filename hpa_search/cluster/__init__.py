"""Searches as jobs on a Ray cluster, seen from a machine that reaches only the cluster's dashboard (Ray's Jobs API)."""
