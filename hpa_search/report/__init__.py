"""The report on a search: one page for people."""
