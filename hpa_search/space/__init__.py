"""The search file: its dimensions, its settings, and the reading of its text."""
