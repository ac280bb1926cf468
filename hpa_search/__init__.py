"""Distributed hyperparameter search for multi-label microscopy image classification."""

__version__ = "0.1.0"
