"""The names of the files in a search's OUT."""

SEARCH = "search.yaml"
SPLIT = "split.csv"
PROVENANCE = "provenance.json"
STUDY = "study.json"
TIMES = "times.csv"

BEGUN = (SEARCH, SPLIT, PROVENANCE, STUDY, TIMES)
"""The files needed to resume or query a search in an object store."""
