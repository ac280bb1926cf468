"""What TensorBoard shows of the validation rows, by a real server."""

from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import pytest

from hpa_search.board.events import EventFiles
from hpa_search.board.validation import Rows, ValidationBoard
from hpa_search.data.packed import PackedImages
from hpa_search.labels import LABELS, NUM_LABELS
from hpa_search.search.leg import EpochReport
from tests.servers.tensorboard import tensorboard

pytestmark = pytest.mark.long

COUNT, PRESENT = 60, 3
"""Rows, and classes with a positive among them."""


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    labels = np.zeros((COUNT, NUM_LABELS), dtype=bool)
    labels[np.arange(COUNT), rng.integers(PRESENT, size=COUNT)] = True
    ids = tuple(f"image{row}" for row in range(COUNT))
    images = PackedImages(Path("unused"), ids, rng.integers(256, size=(COUNT, 4, 16, 16), dtype=np.uint8))
    return Rows(ids, labels, None, images, LABELS)


def logits(rows, number, epoch):
    if number == 3:
        raise OSError("the file is gone")
    if number == 4:
        return None
    noise = np.random.default_rng(number).normal(size=rows.labels.shape)
    return (np.where(rows.labels, 1.0, -1.0) + noise).astype(np.float16)


def test_trials_beyond_the_first_rung_are_shown_and_nothing_ends_the_search(make_search, rows, tmp_path):
    search = make_search()
    low, middle, top = search.rungs
    ends = {0: (low, "paused"), 1: (middle, "paused"), 2: (top, "complete"), 3: (top, "complete"), 4: (top, "complete")}
    ends |= {5: (middle, "failed"), 6: (middle - 1, "pruned")}
    events = EventFiles(tmp_path)
    with ValidationBoard(events, search, rows, lambda number, epoch: logits(rows, number, epoch)) as board:
        for number, (epoch, state) in ends.items():
            board.reported(number, EpochReport(epoch, 0.5, {}))
            board.ended(number, state, "")
    with tensorboard(tmp_path / "tensorboard") as server:
        curves, pictures = server.get("plugin/pr_curves/tags"), server.get("plugin/images/tags")
        names = {f"precision_recall/{name}" for name in LABELS[:PRESENT]}
        assert {run: set(tags) for run, tags in curves.items() if tags} == {"0001": names, "0002": names}
        assert {run: set(tags) for run, tags in pictures.items() if tags} == {
            "0002": {"mistakes/worst", "mistakes/labels_confused"}
        }
        asked = urlencode({"run": "0001", "tag": sorted(names)[0]})
        curve = server.get(f"plugin/pr_curves/pr_curves?{asked}")["0001"][0]
        assert curve["step"] == middle
        first = LABELS.index(sorted(names)[0].partition("/")[2])
        assert curve["true_positives"][0] == rows.labels[:, first].sum()
        assert curve["true_positives"][0] + curve["false_positives"][0] == COUNT


def test_an_interrupt_waits_for_no_figure(make_search, rows, tmp_path):
    board = ValidationBoard(EventFiles(tmp_path), make_search(), rows, lambda number, epoch: logits(rows, number, epoch))
    with pytest.raises(KeyboardInterrupt), board:
        for number in range(50):
            board.reported(number, EpochReport(9, 0.5, {}))
            board.ended(number, "complete", "")
        raise KeyboardInterrupt
    assert len(list((tmp_path / "tensorboard").glob("*"))) < 25
