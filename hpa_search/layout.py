"""What the files of a search's OUT are called, for whoever asks of a search without the rest of it."""

SEARCH = "search.yaml"
SPLIT = "split.csv"
PROVENANCE = "provenance.json"
STUDY = "study.json"

BEGUN = (SEARCH, SPLIT, PROVENANCE, STUDY)
"""What of a search in an object store is needed to go on with it, or to ask something of it."""
