from pathlib import Path

import numpy as np
import pytest

from hpa_search.bundle.export import Candidate
from hpa_search.config import TrialConfig
from hpa_search.finish.pool import Pool, best_on_top, joined
from hpa_search.labels import NUM_LABELS

ROWS = 30


def entry(search="all", trial=0, labels=None):
    return (Candidate(search, trial, 1, TrialConfig(), Path(f"{search}-{trial}.safetensors"), labels),)


def pool(networks, logits=None, classes=(0, 1), trained=(0, 1), external=None):
    given = np.zeros((len(networks), ROWS, NUM_LABELS), dtype=np.float32) if logits is None else logits
    rows = np.arange(ROWS)
    return Pool(tuple(networks), rows, np.zeros_like(rows), given, classes, trained, external or {})


@pytest.fixture
def labels():
    found = np.zeros((ROWS, NUM_LABELS), dtype=bool)
    found[::3, 0] = found[::4, 1] = True
    return found


def test_labels_that_no_candidate_was_trained_for_are_not_scored():
    assert pool([entry()]).scored.tolist() == list(range(28))
    some = pool([entry(labels=(8, 9)), entry(trial=1, labels=(9, 10))])
    assert some.scored.tolist() == [8, 9, 10]
    assert some.covers.sum(axis=1).tolist() == [2, 2]


def test_the_best_single_entry_was_trained_for_every_scored_label():
    assert pool([entry("rare", labels=(8,)), entry(), entry(trial=1)]).best_single == 1
    assert pool([entry("one", labels=(8,)), entry("other", labels=(9,))]).best_single == 0


def test_some_entries_make_a_pool_in_the_order_asked_for():
    logits = np.arange(3, dtype=np.float32)[:, None, None] * np.ones((1, ROWS, NUM_LABELS), dtype=np.float32)
    some = pool([entry(trial=number) for number in range(3)], logits).only([2, 0])
    assert [one.trial for one in some.candidates] == [2, 0] and some.logits[:, 0, 0].tolist() == [2.0, 0.0]


def test_joined_pools_know_what_each_of_them_knew():
    both = joined([pool([entry()], external={"all": 3}), pool([entry("rare", labels=(8,))], classes=(8,), trained=(1, 8))])
    assert [one.search for one in both.candidates] == ["all", "rare"] and both.logits.shape == (2, ROWS, NUM_LABELS)
    assert (both.classes, both.trained, both.external) == ((0, 1, 8), (0, 1, 8), {"all": 3})


def test_the_best_entry_by_macro_ap_is_on_top(labels):
    poor, good = np.zeros((2, ROWS, NUM_LABELS), dtype=np.float32)
    good[labels] = 3.0
    assert [
        one.trial for one in best_on_top(pool([entry(trial=0), entry(trial=1)], np.stack([poor, good])), labels).candidates
    ] == [1, 0]


def test_a_label_that_an_entry_was_not_trained_for_does_not_raise_it(labels):
    """The specialist's logits of label 0 are perfect by accident."""
    accident, sound = np.zeros((2, ROWS, NUM_LABELS), dtype=np.float32)
    accident[:, 0], sound[:, 1] = 9.0 * labels[:, 0], 1.0 * labels[:, 1]
    networks = [entry("rare", labels=(8,)), entry()]
    assert [one.search for one in best_on_top(pool(networks, np.stack([accident, sound])), labels).candidates] == ["all", "rare"]
