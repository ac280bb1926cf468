"""Backbones that timm lacks. Each module here registers a backbone with timm.

A new backbone is a new module. Importing this package registers them all. Each keeps timm's conventions for a classifier; see
`base.Classifier`. So the rest of the program treats them like timm's own.
"""

from hpa_search.registry import register_all

register_all(__name__, __path__)
