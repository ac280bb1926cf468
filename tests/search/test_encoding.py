import random

import numpy as np
import pytest

from hpa_search.search.encoding import ABSENCE, Encoding
from hpa_search.space.parsing import parse_search

SPACE = """
name: kinds
space:
  optimizer: {choice: [adam, adamw, sgd]}
  momentum: {range: [0.0, 0.9], when: {optimizer: sgd}}
  clip_norm: {choice: [null, 1.0], unless: {optimizer: adam}}
  batch_size: {integer: [8, 32]}
  learning_rate: {log_range: [1.0e-4, 1.0e-2]}
exclude:
  - {optimizer: [adamw], clip_norm: [1.0]}
budget: {trials: 3}
"""


@pytest.fixture
def search():
    return parse_search(SPACE, "kinds.yaml")


@pytest.fixture
def encoding(search):
    return Encoding(search)


def test_a_code_holds_indices_and_places(encoding):
    point = {"optimizer": "sgd", "momentum": 0.45, "clip_norm": None, "batch_size": 14, "learning_rate": 1e-3}
    assert encoding.codes([point])[0] == pytest.approx([2, 0.5, 0, 0.25, 0.5])
    code = encoding.codes([{"optimizer": "adam", "batch_size": 32, "learning_rate": 1e-4}])[0]
    assert code == pytest.approx([0, np.nan, np.nan, 1, 0], nan_ok=True)


def test_a_configuration_comes_back_from_its_code(encoding, search):
    for number in range(50):
        point = search.draw(random.Random(number))
        assert encoding.point(encoding.codes([point])[0]) == pytest.approx(point)


def test_random_codes_are_configurations_of_the_space_once_they_are_settled(encoding, search):
    codes = encoding.settle(encoding.random(np.random.default_rng(0), 500))
    points = [encoding.point(code) for code in codes]
    assert 350 < len(points) < 480  # a sixth are excluded
    for point in points:
        assert not search.excluded(point)
        assert point.keys() == {name for name, dimension in search.space.items() if dimension.active(point)}
        assert all(search.space[name].holds(value) for name, value in point.items())
    assert {point["batch_size"] for point in points} == set(range(8, 33))
    assert {point["optimizer"] for point in points} == {"adam", "adamw", "sgd"}


def test_numbers_stay_within_their_bounds_whatever_the_rounding(encoding, search):
    for edge in (0.0, 1.0):
        point = encoding.point(np.array([2, edge, 0, edge, edge]))
        assert all(search.space[name].holds(value) for name, value in point.items())


def distance(encoding, one, other):
    return np.square(np.subtract(*encoding.features(encoding.codes([one, other])))).sum()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, 0),
        ({"clip_norm": 1.0}, 1),
        ({"batch_size": 32}, 0.25),
        ({"learning_rate": 1e-2}, 0.25),
    ],
)
def test_distances_are_1_for_two_choices_and_the_share_of_the_range_for_numbers(encoding, change, expected):
    point = {"optimizer": "sgd", "momentum": 0.45, "clip_norm": None, "batch_size": 20, "learning_rate": 1e-3}
    assert distance(encoding, point, {**point, **change}) == pytest.approx(expected)


def test_a_number_that_does_not_exist_is_away_from_all_that_do(encoding):
    without = {"optimizer": "sgd", "batch_size": 20, "learning_rate": 1e-3}  # no momentum, though beside sgd it exists
    with_it = {**without, "momentum": 0.45}
    assert distance(encoding, with_it, without) == pytest.approx(ABSENCE**2)
    assert distance(encoding, {**with_it, "momentum": 0.9}, without) == pytest.approx(ABSENCE**2 + 0.25)
    assert distance(encoding, without, without) == 0


def test_one_value_alone_is_no_distance():
    encoding = Encoding(
        parse_search("name: one\nspace: {dropout: {range: [0.2, 0.2]}, loss: {choice: [bce]}}\nbudget: {trials: 1}", "")
    )
    code = encoding.codes([{"dropout": 0.2, "loss": "bce"}])[0]
    assert list(code) == [0, 0] and encoding.point(code) == {"dropout": 0.2, "loss": "bce"}


def test_whole_numbers_are_where_they_can_be(encoding):
    codes = encoding.settle(encoding.random(np.random.default_rng(0), 200))
    assert set(np.round(24 * codes[:, 3], 9)) <= set(range(25))
    points = [encoding.point(code) for code in codes]
    assert encoding.codes(points) == pytest.approx(codes, nan_ok=True)
