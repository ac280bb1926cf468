"""What TensorBoard shows of the validation rows, by a real server."""

from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

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
    board = ValidationBoard(events, search, rows, lambda number, epoch: logits(rows, number, epoch))
    for number, (epoch, state) in ends.items():
        board.reported(number, EpochReport(epoch, 0.5, {}))
        board.ended(number, state, "")
    board.drain()
    with tensorboard(tmp_path / "tensorboard") as server:
        curves, pictures = server.get("plugin/pr_curves/tags"), server.get("plugin/images/tags")
        names = {f"precision_recall/{name}" for name in LABELS[:PRESENT]}
        assert {run: set(tags) for run, tags in curves.items() if tags} == {"0001": names, "0002": names}
        both = {"mistakes/worst", "mistakes/labels_confused"}
        assert {run: set(tags) for run, tags in pictures.items() if tags} == {"0001": both, "0002": both}
        asked = urlencode({"run": "0001", "tag": sorted(names)[0]})
        curve = server.get(f"plugin/pr_curves/pr_curves?{asked}")["0001"][0]
        assert curve["step"] == middle
        first = LABELS.index(sorted(names)[0].partition("/")[2])
        assert curve["true_positives"][0] == rows.labels[:, first].sum()
        assert curve["true_positives"][0] + curve["false_positives"][0] == COUNT


def test_pictures_are_of_the_best_and_have_a_limit(make_search, rows, tmp_path, monkeypatch):
    monkeypatch.setattr("hpa_search.board.validation.BEST", 2)
    drawn = []
    board = ValidationBoard(EventFiles(tmp_path), make_search(), rows, lambda number, epoch: None)
    monkeypatch.setattr(board, "_show", lambda number, epoch, in_pictures: drawn.append((number, in_pictures)))
    for number, objective in enumerate((0.5, 0.6, 0.4, 0.7, 0.55)):
        board.reported(number, EpochReport(9, objective, {}))
        board.ended(number, "complete", "")
    board.drain()
    assert drawn == [(0, True), (1, True), (2, False), (3, True), (4, False)]


def test_a_restricted_search_is_judged_by_its_labels_alone(make_search, rows, tmp_path):
    search = make_search().model_copy(update={"labels": (0, 1)})
    board = ValidationBoard(EventFiles(tmp_path), search, rows, lambda number, epoch: logits(rows, number, epoch))
    board.reported(0, EpochReport(9, 0.5, {}))
    board.ended(0, "complete", "")
    board.drain()
    events = EventAccumulator(str(tmp_path / "tensorboard/0000"), size_guidance={"tensors": 0}).Reload()
    assert sorted(events.Tags()["tensors"]) == sorted(f"precision_recall/{LABELS[label]}" for label in (0, 1))
