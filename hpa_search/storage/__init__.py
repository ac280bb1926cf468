"""Folders that lie in object stores: places, a patient client of their servers, and local mirrors to work in."""
