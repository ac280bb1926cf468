"""What a search will do, before it does it."""
