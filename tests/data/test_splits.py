import csv
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpa_search.data.splits import PARTS, Split, fold_split, folds, make_split, read_split, write_split
from hpa_search.errors import UserError
from hpa_search.labels import parse_target, to_vector

FRACTIONS = (0.7, 0.15, 0.15)


def parts_of(split: Split, n: int) -> np.ndarray:
    part = np.full(n, -1)
    for index, name in enumerate(PARTS):
        assert (part[getattr(split, name)] == -1).all()
        part[getattr(split, name)] = index
    assert (part >= 0).all(), "every row is in one part"
    return part


def random_labels(n: int, seed: int, rates=(0.4, 0.2, 0.05, 0.01)) -> np.ndarray:
    labels = np.random.default_rng(seed).random((n, len(rates))) < rates
    labels[~labels.any(axis=1), 0] = True
    return labels


@st.composite
def datasets(draw):
    n = draw(st.integers(3, 60))
    labels = np.array(draw(st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=n, max_size=n)), dtype=bool)
    names = draw(st.one_of(st.none(), st.lists(st.sampled_from("abcdefghij"), min_size=n, max_size=n)))
    return labels, names


@given(datasets(), st.sampled_from([FRACTIONS, (0.8, 0.2, 0.0), (0.1, 0.8, 0.1)]), st.integers(0, 3))
def test_any_dataset_is_split_whole_with_no_group_torn(dataset, fractions, seed):
    labels, groups = dataset
    wanted = 3 if fractions[2] else 2
    if groups is not None and len(set(groups)) < wanted:
        with pytest.raises(UserError, match="cannot be split"):
            make_split(labels, groups, fractions, seed)
        return
    split = make_split(labels, groups, fractions, seed)
    part = parts_of(split, len(labels))
    assert set(part) == set(range(wanted))
    if groups is not None:
        assert len(set(zip(groups, part, strict=True))) == len(set(groups))


@given(datasets(), st.integers(2, 5))
def test_folds_are_whole_and_tear_no_group(dataset, k):
    labels, groups = dataset
    if (len(labels) if groups is None else len(set(groups))) < k:
        with pytest.raises(UserError, match="cannot be split"):
            folds(labels, groups, k, 0)
        return
    fold = folds(labels, groups, k, 0)
    assert set(fold) == set(range(k))
    if groups is not None:
        assert len(set(zip(groups, fold, strict=True))) == len(set(groups))


@pytest.mark.parametrize("seed", range(5))
def test_parts_are_of_their_sizes_and_alike_in_their_labels(seed):
    labels = random_labels(1000, seed)
    split = make_split(labels, None, FRACTIONS, seed)
    for rows, fraction in zip((split.train, split.validation, split.test), FRACTIONS, strict=True):
        assert abs(len(rows) - 1000 * fraction) <= 10
        assert np.abs(labels[rows].sum(axis=0) - fraction * labels.sum(axis=0)).max() <= 3


def test_groups_of_very_different_sizes_still_fill_the_parts_by_their_fractions():
    sizes = np.concatenate([[400, 200, 90, 60], np.random.default_rng(0).integers(1, 8, 60)])
    groups = [f"g{index}" for index, size in enumerate(sizes) for _ in range(size)]
    split = make_split(random_labels(len(groups), 0), groups, FRACTIONS, 0)
    for rows, fraction in zip((split.train, split.validation, split.test), FRACTIONS, strict=True):
        assert abs(len(rows) / len(groups) - fraction) < 0.05


@pytest.mark.parametrize("seed", range(10))
def test_a_rare_class_is_in_as_many_parts_as_it_has_images(seed):
    """Of two images and fractions .7 .15 .15 the stratification alone puts both into training."""
    labels = np.zeros((100, 4), dtype=bool)
    labels[:, 0] = True
    labels[[5, 17], 1] = True
    labels[[3, 50, 77], 2] = True
    labels[60, 3] = True
    part = parts_of(make_split(labels, None, FRACTIONS, seed), 100)
    assert set(part[labels[:, 1]]) == {0, 1}
    assert set(part[labels[:, 2]]) == {0, 1, 2}
    assert set(part[labels[:, 3]]) == {0}


def test_the_seed_decides():
    labels = random_labels(200, 0)
    one, same, other = (make_split(labels, None, FRACTIONS, seed) for seed in (1, 1, 2))
    assert np.array_equal(one.validation, same.validation) and not np.array_equal(one.validation, other.validation)
    assert np.array_equal(folds(labels, None, 4, 1), folds(labels, None, 4, 1))


@pytest.mark.parametrize("fractions", [(0.5, 0.5, 0.5), (1.0, 0.0, 0.0), (0.0, 0.5, 0.5), (0.9, 0.2, -0.1), (np.nan, 0.5, 0.5)])
def test_fractions_that_make_no_split_are_refused(fractions):
    with pytest.raises(UserError, match="fractions"):
        make_split(random_labels(50, 0), None, fractions, 0)


def test_one_fold_is_refused():
    with pytest.raises(UserError, match="at least 2"):
        folds(random_labels(50, 0), None, 1, 0)


@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [([0, 1], [1], [2]), ([1, 0], [2], []), ([0, 0], [2], []), ([], [0], []), ([0], [], [1]), ([-1], [0], [])],
)
def test_a_split_is_checked_when_built(train, validation, test):
    with pytest.raises(ValueError, match="rows"):
        Split(*(np.array(rows, dtype=int) for rows in (train, validation, test)))


IDS = ("a", "b", "c,d", "e")


def test_a_split_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "split.csv"
    split = Split(np.array([0, 3]), np.array([2]), np.array([1]))
    write_split(path, IDS, split)
    assert path.read_text() == 'Id,Split\na,train\nb,test\n"c,d",validation\ne,train\n'
    for name in PARTS:
        assert np.array_equal(getattr(read_split(path, IDS), name), getattr(split, name))
    path.write_text("Split,Id\n" + "validation,b\ntrain,a\ntest,e\n" + 'train,"c,d"\n')
    again = read_split(path, IDS)
    assert (again.train.tolist(), again.validation.tolist(), again.test.tolist()) == ([0, 2], [1], [3])


def test_a_split_that_leaves_a_row_out_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="no part"):
        write_split(tmp_path / "split.csv", IDS, Split(np.array([0]), np.array([2]), np.array([1])))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        ("a,train\nb,validation\ne,train\n", "split.csv: no row for Id 'c,d' of the dataset"),
        ("a,train\nf,train\n", "split.csv, line 3: Id 'f' is not in the dataset"),
        ("a,train\na,test\n", "split.csv, line 3: Id 'a' is named twice"),
        ("a,val\n", "split.csv, line 2: 'val' is not a part; expected train, validation, test"),
        ('a,train\nb,train\n"c,d",train\ne,test\n', "split.csv: no image is in validation"),
    ],
)
def test_a_split_of_another_dataset_is_refused(tmp_path, rows, fault):
    path = tmp_path / "split.csv"
    path.write_text("Id,Split\n" + rows)
    with pytest.raises(UserError) as caught:
        read_split(path, IDS)
    assert fault in str(caught.value) and str(path) in str(caught.value)


def test_a_missing_split_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"split\.csv: missing"):
        read_split(tmp_path / "split.csv", IDS)


@pytest.fixture
def real_table(real_data):
    with (real_data / "labels" / "train.csv").open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    name = {identifier: identifier for identifier, _ in rows}
    for line in (real_data / "labels" / "train_duplicates.txt").read_text().split():
        for one, other in pairwise(line.split(",")):
            name[other] = name[one]
    return np.stack([to_vector(parse_target(target)) for _, target in rows]), [name[identifier] for identifier, _ in rows]


def test_the_labels_of_the_competition(real_table):
    labels, groups = real_table
    split = make_split(labels, groups, FRACTIONS, 0)
    part = parts_of(split, len(labels))
    assert len(set(zip(groups, part, strict=True))) == len(set(groups)) < len(groups)
    for rows, fraction in zip((split.train, split.validation, split.test), FRACTIONS, strict=True):
        counts, wanted = labels[rows].sum(axis=0), fraction * labels.sum(axis=0)
        assert (np.abs(counts - wanted) <= 2 + 0.02 * wanted).all()
        assert (counts > 0).all()
    fold = folds(labels, groups, 5, 0)
    rods = np.bincount(fold[labels[:, 27]], minlength=5)
    assert rods.tolist() and rods.min() >= 2 and rods.max() <= 3


@pytest.mark.parametrize("groups", [None, 40])
def test_a_random_split_has_its_shares_and_keeps_groups_whole(groups):
    labels = random_labels(400, 0)
    names = None if groups is None else [f"g{row % groups}" for row in range(400)]
    split = make_split(labels, names, (0.7, 0.15, 0.15), 3, "random")
    sizes = [len(split.train), len(split.validation), len(split.test)]
    assert sum(sizes) == 400
    assert np.abs(np.array(sizes) / 400 - [0.7, 0.15, 0.15]).max() <= (0.01 if groups is None else 0.03)
    if names:
        parts = [{names[row] for row in rows} for rows in (split.train, split.validation, split.test)]
        assert not (parts[0] & parts[1] or parts[0] & parts[2] or parts[1] & parts[2])
    again, other = (make_split(labels, names, (0.7, 0.15, 0.15), seed, "random") for seed in (3, 4))
    assert np.array_equal(split.train, again.train)
    assert not np.array_equal(split.train, other.train)


def test_a_random_split_does_not_look_at_the_labels():
    first, second = (make_split(random_labels(200, seed), None, (0.5, 0.5, 0.0), 1, "random") for seed in (0, 1))
    assert np.array_equal(first.train, second.train)


@pytest.mark.parametrize("method", ["stratified", "random"])
def test_folds_judge_in_turn_and_test_stays_apart(method, tmp_path):
    labels, ids = random_labels(300, 0), [f"i{row}" for row in range(300)]
    split = fold_split(labels, None, 0.2, 5, 0, method)
    assert split.fold is not None
    assert np.array_equal(split.test, np.flatnonzero(split.fold == -1))
    assert np.array_equal(split.validation, np.flatnonzero(split.fold == 0))
    assert np.abs(np.bincount(split.fold + 1) - [60, 48, 48, 48, 48, 48]).max() <= 8
    write_split(tmp_path / "split.csv", ids, split)
    assert (tmp_path / "split.csv").read_text().startswith("Id,Split,Fold\ni0,")
    back = read_split(tmp_path / "split.csv", ids)
    assert np.array_equal(back.validation, split.validation) and np.array_equal(back.fold, split.fold)
    for fold in range(5):
        turned = split.judged_by(fold)
        assert turned.judging == fold
        assert np.array_equal(turned.validation, np.flatnonzero(split.fold == fold))
        assert np.array_equal(turned.test, split.test)
        assert set(turned.train) == (set(split.train) | set(split.validation)) - set(turned.validation)
        write_split(tmp_path / "turned.csv", ids, turned)
        assert read_split(tmp_path / "turned.csv", ids).judging == fold
    assert np.array_equal(split.judged_by(0).train, split.train)


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        ("a,train,1\nb,train,x\n", "split.csv, line 3: Fold 'x' is not a whole number from -1 to 999"),
        ("a,train,1\nb,train,-2\n", "split.csv, line 3: Fold '-2' is not a whole number"),
        ("a,train,1\nb,train,1.0\n", "split.csv, line 3: Fold '1.0' is not a whole number"),
        ("a,train,1\nb,train,\n", "split.csv, line 3: Fold '' is not a whole number"),
        ("a,train,1\nb,test,1\n", "split.csv, line 3: Fold 1 in test; test rows, and only they, have the fold -1"),
        ("a,train,1\nb,train,-1\n", "split.csv, line 3: Fold -1 in train; test rows"),
        ("a,train,0\nb,train,1\n", "split.csv, line 2: Fold 0 in train, but validation is fold 0"),
        ("a,train,2\nb,validation,1\n", "split.csv, line 4: Fold 0 in validation, but validation is fold 1"),
        ("a,train,3\nb,train,1\n", "split.csv: no image is in fold 2"),
        ("a,train,1\nb,train\n", "split.csv, line 3: 2 values where the header has 3"),
    ],
)
def test_folds_that_contradict_the_parts_are_refused_by_their_lines(tmp_path, rows, fault):
    path = tmp_path / "split.csv"
    path.write_text(f'Id,Split,Fold\n{rows}"c,d",validation,0\ne,test,-1\n')
    with pytest.raises(UserError) as caught:
        read_split(path, IDS)
    assert fault in str(caught.value)


@pytest.mark.parametrize("fold", [[0, 1, 1, -1], [1, 0, 1, 1], [0, 2, 2, -1], [0, 0, 1, -1], [0, 1, 1, -1, 1], [-1, 0, 1, -1]])
def test_folds_are_checked_against_the_parts_when_built(fold):
    parts = (np.array([1, 2]), np.array([0]), np.array([3]))
    if fold == [0, 1, 1, -1]:
        assert Split(*parts, np.array(fold)).judging == 0
        return
    with pytest.raises(ValueError, match="folds"):
        Split(*parts, np.array(fold))


def test_folds_without_a_test_part():
    split = fold_split(random_labels(100, 0), None, 0.0, 4, 0)
    assert not len(split.test)
    assert len(split.train) + len(split.validation) == 100


@pytest.mark.parametrize("fractions", [(0.3333, 0.3333, 0.3333), (0.333, 0.333, 0.333), (0.7, 0.15, 0.15000001)])
def test_fractions_that_add_up_but_for_rounding_are_parts_of_their_sum(fractions):
    split = make_split(random_labels(300, 0), None, fractions, 0)
    sizes = np.array([len(split.train), len(split.validation), len(split.test)])
    np.testing.assert_allclose(sizes, 300 * np.array(fractions) / sum(fractions), atol=3)


def test_fractions_beyond_rounding_are_shown_with_their_sum():
    with pytest.raises(UserError, match="must add up to 1, and add up to 1.0021"):
        make_split(random_labels(50, 0), None, (0.7, 0.15, 0.1521), 0)
