import pytest

from hpa_search.errors import UserError
from hpa_search.search import fleet
from hpa_search.search.fleet import first_places


def test_a_cluster_that_comes_up_is_waited_for(monkeypatch):
    monkeypatch.setattr(fleet, "LOOK_SECONDS", 0.01)
    counts, said = iter([0, 0, 0, 2]), []
    assert first_places(lambda: next(counts), 5, "each 1 CPU(s)", said.append, lambda: False)
    assert len(said) == 1 and "hold no slot yet (each 1 CPU(s))" in said[0]


def test_one_that_cannot_grow_is_refused_at_once():
    with pytest.raises(UserError, match=r"hold no slot \(each 9 CPU\(s\)\); lower resources"):
        first_places(lambda: 0, 0, "each 9 CPU(s)", lambda line: pytest.fail(line), lambda: False)


def test_a_driver_that_is_to_end_waits_for_no_node():
    assert not first_places(lambda: 0, 300, "each 9 CPU(s)", print, lambda: True)
