from types import SimpleNamespace

import pytest

from hpa_search.errors import UserError
from hpa_search.search import fleet
from hpa_search.search.fleet import Fleet, first_places


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


class Cluster:
    """Nodes of one place each, and an exchange that only counts slots: what a fleet sees of Ray."""

    def __init__(self, monkeypatch, *nodes: str) -> None:
        self.nodes, self.opened = set(nodes), 0
        exchange = SimpleNamespace(
            hosts=self._call(dict), open_slot=self._call(self._open), lose_slot=self._call(lambda index: None)
        )
        listed = lambda: [{"NodeID": node, "Alive": True} for node in self.nodes]  # noqa: E731
        monkeypatch.setattr(fleet, "ray", SimpleNamespace(nodes=listed, get=lambda answer: answer))
        self.counts = []
        self.fleet = Fleet(
            exchange,
            places=lambda: len(self.nodes),
            make=lambda index, on_given_up: SimpleNamespace(retire=lambda: None),
            on_change=self.counts.append,
            on_trouble=pytest.fail,
            is_hurried=lambda: False,
            say=lambda line: None,
        )

    def _call(self, answer):
        return SimpleNamespace(remote=answer)

    def _open(self):
        self.opened += 1
        return self.opened - 1


def test_a_slot_given_up_comes_back_only_with_other_nodes(monkeypatch):
    cluster = Cluster(monkeypatch, "a", "b")
    cluster.fleet._look()
    cluster.fleet._give_up(0, "its workers do not start")
    cluster.fleet._look()
    assert cluster.counts == [2, 1, 1]
    cluster.nodes = {"a", "c"}
    cluster.fleet._look()
    assert cluster.counts[-1] == 2 and cluster.opened == 3
