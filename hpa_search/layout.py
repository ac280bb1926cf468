"""The names of the files in a search's OUT."""

SEARCH = "search.yaml"
SPLIT = "split.csv"
PROVENANCE = "provenance.json"
STUDY = "study.json"

BEGUN = (SEARCH, SPLIT, PROVENANCE, STUDY)
"""The files needed to resume or query a search in an object store."""
