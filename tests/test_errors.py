import pickle

import pytest

from hpa_search.errors import UserError, nearest


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("budgte", "; did you mean 'budget'?"),
        ("budget", "; did you mean 'budget'?"),
        ("seeds", "; did you mean 'seed'?"),
        ("zzz", ""),
        ("", ""),
    ],
)
def test_the_nearest_word_is_offered_if_one_is_near(word, expected):
    assert nearest(word, iter(["budget", "seed", "name"])) == expected


def test_nothing_is_near_where_nothing_is_known():
    assert nearest("budget", []) == ""


def test_a_message_survives_another_process():
    again = pickle.loads(pickle.dumps(UserError("data: missing")))
    assert isinstance(again, UserError)
    assert str(again) == "data: missing"
