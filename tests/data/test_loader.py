import threading

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hpa_search.data.loader import AHEAD, Batches, split_rows


class ArrayImages:
    def __init__(self, array):
        self.array = array
        self.gathered = 0

    def gather(self, rows):
        self.gathered += 1
        return self.array[rows]


def dataset(rows=10):
    images = np.zeros((rows, 4, 2, 2), dtype=np.uint8) + np.arange(rows, dtype=np.uint8)[:, None, None, None]
    labels = np.zeros((rows, 28), dtype=bool)
    labels[np.arange(rows), np.arange(rows) % 28] = True
    return ArrayImages(images), labels


def test_images_and_labels_stay_together_in_the_given_order():
    images, labels = dataset()
    order = np.array([7, 1, 4, 9, 0])
    batches = list(Batches(images, labels, split_rows(order, 2, training=False)))
    assert [len(batch) for batch in batches] == [2, 2, 1]
    assert torch.cat([batch.images[:, 0, 0, 0] for batch in batches]).tolist() == order.tolist()
    assert torch.cat([batch.labels.argmax(dim=1) for batch in batches]).tolist() == order.tolist()
    assert batches[0].images.dtype == torch.uint8
    assert batches[0].labels.dtype == torch.float32


def test_can_be_iterated_over_again():
    images, labels = dataset()
    batches = Batches(images, labels, split_rows(np.arange(10), 3, training=False))
    assert len(batches) == 4
    assert len(list(batches)) == len(list(batches)) == 4


@given(st.integers(1, 60), st.integers(2, 20))
def test_training_drops_at_most_a_last_single_row(rows, batch_size):
    order = np.arange(rows)
    parts = split_rows(order, batch_size, training=True)
    kept = np.concatenate(parts) if parts else order[:0]
    assert len(kept) == rows - (rows % batch_size == 1)
    assert all(2 <= len(part) <= batch_size for part in parts)
    assert np.array_equal(np.concatenate(split_rows(order, batch_size, training=False)), order)


def test_fetches_ahead_but_not_the_whole_epoch():
    images, labels = dataset(60)
    iterator = iter(Batches(images, labels, split_rows(np.arange(60), 2, training=False)))
    next(iterator)
    iterator.close()
    assert 1 <= images.gathered <= AHEAD + 2
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("batches")]


def test_a_failing_read_reaches_the_caller():
    class Broken:
        def gather(self, rows):
            raise OSError("disk gone")

    _, labels = dataset()
    with pytest.raises(OSError, match="disk gone"):
        list(Batches(Broken(), labels, split_rows(np.arange(10), 2, training=False)))
