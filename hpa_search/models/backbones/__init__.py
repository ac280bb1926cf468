"""Backbones that timm does not have: each module here registers one with timm, by name.

A new backbone is one new module. Importing this package registers them all. Each keeps timm's conventions for a classifier
(see `base.Classifier`), so the rest of the program treats them like timm's own.
"""

from hpa_search.registry import register_all

register_all(__name__, __path__)
