import numpy as np
import pytest

from hpa_search.bundle.submission import write_probabilities, write_submission
from hpa_search.errors import UserError
from hpa_search.labels import LABELS

IDS = ("b", "a", "ü")


@pytest.fixture
def probabilities():
    return np.random.default_rng(0).random((3, 28))


def test_a_submission_lists_label_ids_in_the_given_order(tmp_path):
    labels = np.zeros((3, 28), dtype=bool)
    labels[0, [16, 0]], labels[2, 27] = True, True
    write_submission(tmp_path / "s.csv", IDS, labels)
    assert (tmp_path / "s.csv").read_text(encoding="utf-8") == "Id,Predicted\nb,0 16\na,\nü,27\n"


def test_arrays_read_back_exactly_and_without_pickle(tmp_path, probabilities):
    write_probabilities(tmp_path / "p.npz", IDS, probabilities)
    with np.load(tmp_path / "p.npz", allow_pickle=False) as found:
        assert tuple(found["ids"]) == IDS and tuple(found["label_names"]) == LABELS
        np.testing.assert_array_equal(found["probabilities"], probabilities)


def test_a_table_has_a_column_for_each_label(tmp_path, probabilities):
    write_probabilities(tmp_path / "p.csv", IDS, probabilities)
    header, *rows = (line.split(",") for line in (tmp_path / "p.csv").read_text(encoding="utf-8").splitlines())
    assert header == ["Id", *map(str, range(28))]
    assert tuple(row[0] for row in rows) == IDS
    np.testing.assert_allclose(np.array([row[1:] for row in rows], dtype=float), probabilities, rtol=1e-8)


def test_the_same_probabilities_are_the_same_bytes(tmp_path, probabilities):
    for name in ("one.npz", "two.npz"):
        write_probabilities(tmp_path / name, IDS, probabilities)
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()


def test_another_ending_is_refused(tmp_path, probabilities):
    with pytest.raises(UserError, match=r"\.npz or \.csv"):
        write_probabilities(tmp_path / "p.parquet", IDS, probabilities)
