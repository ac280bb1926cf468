"""Folders in object stores: places, a store that retries, and mirrors to work in."""
