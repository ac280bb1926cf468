"""Three workers: more of them than the last batch has rows."""

import pytest
import torch

from hpa_search.training.memory import FewerAtATimeError
from tests.training.group import BATCH_NORM, NO_BATCH_NORM, together, train
from tests.training.test_out_of_memory import memory_for

pytestmark = pytest.mark.long

ONE_EACH = {**NO_BATCH_NORM, "batch_size": 3}
SINGLE_VALUES = {**BATCH_NORM, "batch_size": 3, "head": "avg_max", "learning_rate": 1e-3}


def three_workers(ranks, folder):
    """Train, and see that what differs between the workers is noticed."""
    short = train(folder / "trial", BATCH_NORM, ranks, epochs=1)
    with pytest.raises(RuntimeError, match="do not agree on the colour"):
        ranks.require_alike("the colour", ranks.rank == 1)
    with memory_for(0):
        with pytest.raises(FewerAtATimeError, match="each with [23] images"):
            train(folder / "another", NO_BATCH_NORM, ranks, epochs=1)
        with pytest.raises(torch.OutOfMemoryError):
            train(folder / "another", NO_BATCH_NORM, ranks, epochs=1, micro_batch=1)
    with memory_for(1):  # one of each batch's three rows on each worker, but both of the last batch
        with pytest.raises(FewerAtATimeError, match="each with 1 images"):
            train(folder / "last batch", ONE_EACH, ranks, epochs=1)
        one_each = train(folder / "last batch", ONE_EACH, ranks, epochs=1, micro_batch=1)
    return short + one_each + train(folder / "single values", SINGLE_VALUES, ranks, epochs=1, micro_batch=1)


def test_three_workers_and_a_last_batch_with_less_than_a_row_for_each(tmp_path):
    histories = together(tmp_path, three_workers, world=3)
    names = {"alone": BATCH_NORM, "one each": ONE_EACH, "alone with single values": SINGLE_VALUES}
    alone = [row for name, settings in names.items() for row in train(tmp_path / name, settings, epochs=1)]
    # Norms over three values make much of rounding.
    for row, wanted, tolerance in zip(histories[0], alone, (1e-4, 1e-4, 0.01), strict=True):
        for metric in ("train_loss", "validation_loss"):
            assert row[metric] == pytest.approx(wanted[metric], abs=tolerance)
    assert not (tmp_path / "another" / "checkpoint.pt").exists()
