"""The exported winner and its predictions."""
