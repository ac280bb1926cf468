import csv
import io
import os
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpa_search.config import TrialConfig
from hpa_search.data.sampling import SAMPLINGS, epoch_rows, frequencies_csv, frequency_table
from hpa_search.labels import LABELS, parse_target, to_vector

NONE = TrialConfig()
MINORITY = TrialConfig(sampling="minority", sampling_share=0.1, sampling_copies=4)
REPEAT = TrialConfig(sampling="repeat_factor", sampling_share=0.4, sampling_copies=5)
SQRT = TrialConfig(sampling="sqrt")
EVERY = [NONE, MINORITY, REPEAT, SQRT]


def name_of(config):
    return config.sampling


def by_steps(config, steps, batch_size):
    return config.model_copy(update={"steps_per_epoch": steps, "batch_size": batch_size})


def table(rows=60, seed=0):
    """Row numbers and labels of a training part with common and rare classes."""
    random = np.random.default_rng(seed)
    labels = random.random((rows, 28)) < np.geomspace(0.6, 0.02, 28)
    labels[np.arange(rows), random.integers(0, 4, rows)] = True
    return random.choice(10 * rows, rows, replace=False), labels


@pytest.fixture(scope="module")
def real_labels():
    folder = os.environ.get("HPA_TEST_DATA")
    if not folder:
        pytest.skip("HPA_TEST_DATA is not set; it names the folder with the real label table")
    targets = pd.read_csv(Path(folder) / "labels" / "train.csv")["Target"]
    return np.stack([to_vector(parse_target(target)) for target in targets])


def test_minority_copies_the_rows_of_the_published_seven_classes(real_labels):
    copies = SAMPLINGS["minority"](TrialConfig(sampling="minority", sampling_share=0.01, sampling_copies=7), real_labels)
    seven = {"Peroxisomes", "Endosomes", "Lysosomes", "Microtubule ends", "Mitotic spindle", "Lipid droplets", "Rods & rings"}
    expected = real_labels[:, [name in seven for name in LABELS]].any(axis=1)
    assert expected.sum() > 400
    assert (copies == np.where(expected, 7, 1)).all()


def test_real_rows_are_repeated_by_their_rarest_label(real_labels):
    """Nucleoplasm is common; f of Rods & rings is 11 / 31,072, of Mitotic spindle 210 / 31,072."""
    config = TrialConfig(sampling="repeat_factor", sampling_share=0.05, sampling_copies=10)
    copies = SAMPLINGS["repeat_factor"](config, real_labels)
    assert (copies[real_labels[:, 27]] == 10).all()
    spindle = real_labels[:, 17] & (real_labels[:, [8, 9, 10, 15, 20, 27]].sum(axis=1) == 0)
    np.testing.assert_allclose(copies[spindle], np.sqrt(0.05 * 31072 / 210))
    assert (copies[real_labels.sum(axis=1) == real_labels[:, 0]] == 1).all()


def test_samplings_by_hand():
    """Four rows; class 0 is on all, class 1 on one, class 2 on none, and row 3 has class 1."""
    labels = np.zeros((4, 28), dtype=bool)
    labels[:, 0] = labels[3, 1] = True
    minority = TrialConfig(sampling="minority", sampling_share=0.3, sampling_copies=3)
    assert SAMPLINGS["minority"](minority, labels).tolist() == [1, 1, 1, 3]
    at_share = TrialConfig(sampling="minority", sampling_share=0.25, sampling_copies=3)
    assert SAMPLINGS["minority"](at_share, labels).tolist() == [1, 1, 1, 1]
    factor = TrialConfig(sampling="repeat_factor", sampling_share=0.5, sampling_copies=9)
    np.testing.assert_allclose(SAMPLINGS["repeat_factor"](factor, labels), [1, 1, 1, 2**0.5])
    weights = np.array([1, 1, 1, (1 + 2) / 2])
    np.testing.assert_allclose(SAMPLINGS["sqrt"](SQRT, labels), weights * 4 / weights.sum())


@pytest.mark.parametrize("config", EVERY, ids=name_of)
def test_rows_without_labels_are_sampled(config):
    labels = np.zeros((5, 28), dtype=bool)
    labels[0, 3] = True
    copies = SAMPLINGS[config.sampling](config, labels)
    assert np.isfinite(copies).all()
    assert (copies > 0).all()


@given(st.integers(1, 40), st.integers(0, 10), st.integers(1, 2000))
def test_without_a_sampling_an_epoch_is_a_permutation_by_seed_and_epoch_alone(number, seed, epoch):
    rows, labels = table(number, seed)
    found = epoch_rows(NONE, rows, labels, seed=seed, epoch=epoch)
    assert found.dtype == np.int64
    assert found.tolist() == np.random.default_rng([seed, epoch]).permutation(rows).tolist()


@pytest.mark.parametrize("config", [MINORITY, REPEAT, SQRT], ids=name_of)
def test_each_row_comes_as_often_as_it_should(config):
    rows, labels = table()
    copies = SAMPLINGS[config.sampling](config, labels)
    assert (copies > 1).any()
    counts = []
    for epoch in range(1, 401):
        found = epoch_rows(config, rows, labels, seed=1, epoch=epoch)
        assert abs(len(found) - copies.sum()) < 1.001
        counts.append([(found == row).sum() for row in rows])
    each = np.array(counts)
    assert (each >= np.floor(copies)).all()
    assert (each <= np.ceil(copies)).all()
    np.testing.assert_allclose(each.mean(axis=0), copies, atol=0.1)
    different = len({tuple(row) for row in counts})
    assert different == 1 if config == MINORITY else different > 390


@pytest.mark.parametrize("config", EVERY, ids=name_of)
@pytest.mark.parametrize(("steps", "batch_size"), [(3, 4), (5, 12), (7, 50)])
def test_epochs_of_so_many_steps_cut_up_the_passes(config, steps, batch_size):
    rows, labels = table()
    cut = by_steps(config, steps, batch_size)
    epochs = [epoch_rows(cut, rows, labels, seed=5, epoch=epoch) for epoch in range(1, 41)]
    assert {len(epoch) for epoch in epochs} == {steps * batch_size}
    passes = [epoch_rows(config, rows, labels, seed=5, epoch=number) for number in range(1, 300)]
    together = np.concatenate(epochs)
    assert together.tolist() == np.concatenate(passes)[: len(together)].tolist()


def test_nothing_is_seen_twice_before_everything_was_seen_once():
    rows, labels = table(50)
    cut = by_steps(NONE, 3, 4)
    seen = np.concatenate([epoch_rows(cut, rows, labels, seed=0, epoch=epoch) for epoch in range(1, 26)])
    for start, stop in pairwise(range(0, 301, 50)):
        assert sorted(seen[start:stop].tolist()) == sorted(rows.tolist())


@pytest.mark.parametrize("config", EVERY, ids=name_of)
def test_a_late_epoch_is_as_cheap_as_the_first(config):
    rows, labels = table(10)
    cut = by_steps(config, 100, 32)
    epoch_rows(cut, rows, labels, seed=0, epoch=1)
    seconds = {}
    for epoch in (2, 100_000):
        took = []
        for _ in range(5):
            started = time.perf_counter()
            assert len(epoch_rows(cut, rows, labels, seed=0, epoch=epoch)) == 3200
            took.append(time.perf_counter() - started)
        seconds[epoch] = min(took)
    assert seconds[100_000] < 10 * seconds[2] + 0.1


@given(st.sampled_from(EVERY), st.integers(1, 30), st.integers(0, 99), st.integers(1, 20), st.integers(1, 3))
def test_seed_and_epoch_alone_decide(config, number, seed, epoch, steps):
    rows, labels = table(number, seed)
    for each in (config, by_steps(config, steps, 4)):
        found = epoch_rows(each, rows, labels, seed=seed, epoch=epoch)
        assert found.tolist() == epoch_rows(each, rows.copy(), labels.copy(), seed=seed, epoch=epoch).tolist()
        assert set(found.tolist()) <= set(rows.tolist())
    if number > 20:
        assert found.tolist() != epoch_rows(each, rows, labels, seed=seed + 1, epoch=epoch).tolist()
        assert found.tolist() != epoch_rows(each, rows, labels, seed=seed, epoch=epoch + 1).tolist()


@pytest.mark.parametrize("copies", [np.zeros(60), np.full(60, np.nan), np.ones(59)])
def test_a_sampling_that_cannot_be_is_refused(monkeypatch, copies):
    monkeypatch.setitem(SAMPLINGS, "none", lambda config, labels: copies)
    with pytest.raises(ValueError, match="a number of copies above 0"):
        epoch_rows(NONE, *table(), seed=0, epoch=1)


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="sampling: expected one of"):
        epoch_rows(TrialConfig(sampling="minorty"), *table(), seed=0, epoch=1)


def test_frequencies_count_copies():
    rows, labels = table()
    position = {row: index for index, row in enumerate(rows.tolist())}
    epoch = epoch_rows(MINORITY, rows, labels, seed=0, epoch=1)
    held = labels[[position[row] for row in epoch.tolist()]]
    found = frequency_table(labels, held)
    copies = SAMPLINGS["minority"](MINORITY, labels)
    for index, row in enumerate(found):
        assert (row.label, row.name, row.train_rows) == (index, LABELS[index], labels[:, index].sum())
        assert row.epoch_rows == copies[labels[:, index]].sum()
        assert row.train_share == row.train_rows / 60
        assert row.epoch_share == row.epoch_rows / copies.sum()


def test_frequencies_as_text():
    labels = np.zeros((4, 28), dtype=bool)
    labels[:, 0] = labels[3, 27] = True
    lines = frequencies_csv(labels, labels[[0, 1, 2, 3, 3, 3]]).splitlines()
    assert lines[0] == "label,name,train_rows,train_share,epoch_rows,epoch_share"
    assert lines[1] == "0,Nucleoplasm,4,1.000000,6,1.000000"
    assert lines[28] == "27,Rods & rings,1,0.250000,3,0.500000"
    assert [row["name"] for row in csv.DictReader(io.StringIO("\n".join(lines)))] == list(LABELS)
