"""Trains two members of a search on the other folds: fold_training.py OUT CACHE RESULT."""

import sys
from pathlib import Path

import numpy as np
from rich.console import Console

from hpa_search.finish.folds import train_folds
from hpa_search.finish.material import read_material


def main() -> None:
    out, cache, result = map(Path, sys.argv[1:])
    material = read_material(out, cache, None, (), print)
    found = train_folds(material, material.pool.candidates[:2], cache=cache, ray_address=None, console=Console(width=200))
    if found is None:
        sys.exit(3)
    weights = [[str(candidate.weights) for candidate in candidates] for candidates in found.candidates]
    np.savez(result, rows=found.rows, fold=found.fold, logits=found.logits, weights=np.array(weights))


if __name__ == "__main__":
    main()
