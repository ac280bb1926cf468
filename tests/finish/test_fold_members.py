from pathlib import Path

import numpy as np
import pytest

from hpa_search.bundle.export import Candidate
from hpa_search.config import TrialConfig
from hpa_search.finish.fold_members import FoldMembers


def networks(trial, folds=3):
    return tuple(Candidate("s", trial, 4, TrialConfig(), Path(f"{trial}-{fold}.safetensors")) for fold in range(folds))


def members(**changes):
    fields = {
        "kept": (0, 2),
        "candidates": (networks(0), networks(2)),
        "rows": np.arange(6),
        "fold": np.array([0, 1, 2, 0, 1, 2]),
        "logits": np.zeros((2, 6, 28), dtype=np.float32),
    }
    return FoldMembers(**{**fields, **changes})


def test_two_members_of_three_networks_each():
    found = members()
    assert [one[0].trial for one in found.candidates] == [0, 2]


@pytest.mark.parametrize(
    "changes",
    [
        {"kept": (0,)},
        {"candidates": (networks(0),)},
        {"rows": np.arange(5)},
        {"fold": np.zeros(5, dtype=int)},
        {"logits": np.zeros((2, 6, 27), dtype=np.float32)},
        {"logits": np.zeros((6, 2, 28), dtype=np.float32)},
    ],
)
def test_shapes_that_do_not_fit_are_refused(changes):
    with pytest.raises(ValueError, match="do not fit"):
        members(**changes)
