import numpy as np
import pytest
from scipy.special import expit

from hpa_search.errors import UserError
from hpa_search.predictions.reading import Predictions, read_labelled, read_unlabelled
from hpa_search.scoring.calibration import logit


def refused(read, path, *arguments, **options) -> str:
    with pytest.raises(UserError) as caught:
        read(path, *arguments, **options)
    assert str(path) in str(caught.value)
    return str(caught.value)


def changed(array, value, place=(3, 5)):
    array = array.copy()
    array[place] = value
    return array


@pytest.mark.parametrize("kind", ["npz", "sheet"])
def test_both_kinds_of_file_hold_the_same(request, kind, drawn):
    arrays = drawn()
    found = read_labelled(request.getfixturevalue(kind)())
    assert found.names == ("good", "fair", "noise")
    assert found.logits.dtype == np.float32
    np.testing.assert_allclose(found.logits[1], logit(arrays["fair"]), atol=1e-5)
    np.testing.assert_array_equal(found.labels, arrays["labels"] == 1)
    assert found.groups is None


def test_logits_are_taken_as_they_are_within_bounds(npz, drawn):
    z = {name: logit(drawn()[name]) for name in ("good", "fair", "noise")}
    z["good"][0, 0] = 1e6
    z["good"][0, 1] = -1e6
    found = read_labelled(npz(**z), logits=True)
    np.testing.assert_allclose(found.logits[1], z["fair"], atol=1e-5)
    assert found.logits[0, 0, :2].tolist() == [50, -50]


def test_certain_probabilities_stay_finite(npz, drawn):
    found = read_labelled(npz(good=drawn()["labels"]))
    assert np.unique(np.abs(found.logits[0])).tolist() == pytest.approx([16.118], abs=1e-3)


@pytest.mark.parametrize(
    ("replaced", "words"),
    [
        (
            lambda a: {"good": changed(a["good"], np.nan)},
            "model 'good': NaN or infinite for Id 'id0003', label 5; leave the model or the row",
        ),
        (lambda a: {"good": changed(a["good"], np.nan, 3)}, "label 0 (and 27 more)"),
        (
            lambda a: {"good": changed(a["good"], 1.5)},
            "1.5 for Id 'id0003', label 5 lies outside 0 to 1; if these are logits, add --logits",
        ),
        (lambda a: {"good": changed(a["good"], np.inf)}, "NaN or infinite for Id 'id0003'"),
        (lambda a: {"good": a["good"][:-1]}, "model 'good': float32 of shape (149, 28); expected numbers of shape (150, 28)"),
        (lambda a: {"good": a["good"][:, :27]}, "shape (150, 27)"),
        (lambda a: {"good": a["good"].astype(str)}, "expected numbers"),
        (lambda a: {"good": a["good"] + 1j}, "complex"),
        (lambda a: {"good": np.full((150, 28), 0.5)}, "model 'good' has one value for every row and class"),
        (lambda a: {"labels": None}, "no labels"),
        (lambda a: {"labels": a["labels"] * 0}, "no row has any label"),
        (lambda a: {"labels": a["labels"] * 2}, "labels must hold 0 and 1 only"),
        (lambda a: {"labels": a["labels"][:-1]}, "labels have shape (149, 28)"),
        (lambda a: {"labels": a["labels"].argmax(axis=1)}, "labels have shape (150,)"),
        (lambda a: {"ids": changed(a["ids"], "id0001", 9)}, "Id 'id0001' is in rows 2 and 10"),
        (lambda a: {"ids": changed(a["ids"], " ", 9)}, "row 10 has an empty Id"),
        (lambda a: {"ids": changed(a["ids"], "a\x07", 9)}, r"row 10: Id 'a\x07' has a control character"),
        (lambda a: {"ids": changed(a["ids"], "Zel\udce4", 9)}, r"row 10: Id 'Zel\xe4' is not UTF-8"),
        (
            lambda a: {"ids": np.array([b"Zell\xe4", *(b"%d" % i for i in range(149))])},
            "array 'ids' has bytes that are not UTF-8",
        ),
        (lambda a: {"labels": a["labels"] * 100}, "labels must hold 0 and 1 only (found 100 in row"),
        (lambda a: {"labels": a["labels"] * 0.7}, "(found 0.7 in row"),
        (lambda a: {"good": changed(a["good"], 1.00001)}, "1.00001 for Id 'id0003', label 5 lies outside 0 to 1; a probability"),
        (lambda a: {"good": changed(a["good"].astype(float), 1.0000021)}, "1.0000021 for Id 'id0003'"),
        (lambda a: {"good": a["good"] * 100}, "percentages by dividing them by 100"),
        (lambda a: {"good": logit(a["good"])}, "and those of model 'fair' like probabilities: bring all to probabilities"),
        (lambda a: {"ids": a["ids"][:0]}, "no rows"),
        (lambda a: {"groups": a["ids"][:-1]}, "149 groups for 150 rows"),
        (lambda a: {"good": None, "fair": None, "noise": None}, "no model in it"),
    ],
)
def test_a_fault_is_named(npz, drawn, replaced, words):
    assert words in refused(read_labelled, npz(**replaced(drawn())))


def test_probabilities_given_as_logits(npz, drawn):
    assert "leave --logits out" in refused(read_labelled, npz(), logits=True)
    rounded = changed(drawn()["good"], 1.0000001)
    assert rounded.max() > 1
    assert "all values lie between 0 and 1" in refused(read_labelled, npz(good=rounded), logits=True)
    said = refused(read_labelled, npz(good=changed(drawn()["good"], 7)), logits=True)
    assert "all values but 1 lie between 0 and 1" in said and "7 for Id 'id0003', label 5" in said
    mixed = {"good": logit(drawn()["good"]), "fair": drawn()["fair"], "noise": None}
    assert "these look like probabilities and those of model 'good' like logits" in refused(
        read_labelled, npz(**mixed), logits=True
    )


@pytest.mark.parametrize(
    ("dtype", "high", "low"), [(np.float16, 1.001, -0.001), (np.float32, 1.0000001, -1e-7), (np.float64, 1 + 1e-9, -1e-18)]
)
def test_a_probability_that_rounding_moved_beyond_0_or_1_is_at_the_bound(npz, drawn, dtype, high, low):
    values = drawn()["good"].astype(dtype)
    values[3, 5], values[4, 6] = high, low
    assert values.max() > 1 and values.min() < 0
    found = read_labelled(npz(good=values))
    assert [found.logits[0, 3, 5], found.logits[0, 4, 6]] == pytest.approx([16.118, -16.118], abs=1e-3)
    assert read_unlabelled(npz(good=values), ["good"]).logits.max() == found.logits[0].max()


@pytest.mark.parametrize(
    "made", [lambda y: y * 0.9999999 + 1e-9, lambda y: y.astype(np.float16), lambda y: np.where(y, "1.0", "0")]
)
def test_labels_may_be_floats_or_text(npz, drawn, made):
    labels = drawn()["labels"]
    np.testing.assert_array_equal(read_labelled(npz(labels=made(labels))).labels, labels == 1)


def test_logits_of_a_model_that_says_the_same_are_not_called_probabilities(npz):
    assert "has one value for every row" in refused(
        read_labelled, npz(good=np.zeros((150, 28)), fair=None, noise=None), logits=True
    )


def test_an_unknown_ending(tmp_path):
    assert "read from .npz and .csv files" in refused(read_labelled, tmp_path / "predictions.parquet")


def test_only_the_models_that_are_needed_are_read(npz, drawn):
    arrays = drawn()
    path = npz(labels=None, noise=np.full((150, 28), np.nan))
    found = read_unlabelled(path, ["fair", "good"])
    assert found.names == ("fair", "good") and found.labels is None
    np.testing.assert_allclose(expit(found.logits[1]), arrays["good"], atol=1e-6)
    said = refused(read_unlabelled, path, ["good", "best"])
    assert "lacks the model(s) 'best'" in said and "it has 'good', 'fair', 'noise'" in said


def test_labels_that_are_not_needed_are_not_judged(npz, sheet):
    assert read_unlabelled(npz(labels=np.zeros(3)), ["good"]).labels is None
    path = sheet(rows=3)
    path.write_text(path.read_text().replace("id0001,", "id0001,none ", 1))
    assert len(read_unlabelled(path, ["good"]).ids) == 3


@pytest.mark.parametrize(
    "replaced", [{"logits": np.zeros((1, 2, 27))}, {"labels": np.zeros((3, 28))}, {"groups": np.array(["a"])}]
)
def test_a_record_is_checked(replaced):
    fields = {"ids": ("a", "b"), "labels": None, "groups": None, "names": ("m",), "logits": np.zeros((1, 2, 28))}
    Predictions(**fields)
    with pytest.raises(ValueError, match="do not fit"):
        Predictions(**{**fields, **replaced})
