"""Backbones that timm does not have, registered with it by name: a further one is one further file here.

Importing this package registers them all. Each keeps timm's conventions for a classifier (see `base.Classifier`), so that
the rest of the program need not know which are its own.
"""

import importlib
import pkgutil

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
