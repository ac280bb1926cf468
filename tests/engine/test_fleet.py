from types import SimpleNamespace

import pytest
from ray.exceptions import RayActorError

from hpa_search.engine import fleet
from hpa_search.engine.fleet import Fleet, wait_for_places
from hpa_search.errors import UserError
from hpa_search.search.life import Life


def test_a_cluster_that_comes_up_is_waited_for(monkeypatch):
    monkeypatch.setattr(fleet, "LOOK_SECONDS", 0.01)
    counts, said = iter([0, 0, 0, 2]), []
    slots = iter(["each 1 CPU(s) and 0 GPU(s)", "each 1 CPU(s) and 1 GPU(s)"])
    assert wait_for_places(lambda: next(counts), lambda: next(slots), may_come=True, life=Life(), say=said.append)
    assert len(said) == 1 and "can hold a slot yet (each 1 CPU(s) and 0 GPU(s)); waiting for one" in said[0]


def test_one_that_cannot_grow_is_refused_at_once():
    with pytest.raises(UserError, match=r"hold no slot \(each 9 CPU\(s\)\); lower resources"):
        wait_for_places(lambda: 0, lambda: "each 9 CPU(s)", may_come=False, life=Life(), say=pytest.fail)


@pytest.mark.parametrize("ask", ["end", "pause"])
def test_a_driver_that_is_to_end_waits_for_no_node(ask):
    life = Life()
    getattr(life, ask)()
    assert not wait_for_places(lambda: 0, lambda: "each 9 CPU(s)", may_come=True, life=life, say=print)


class Cluster:
    """Nodes of one place each, and a mailbox that only counts slots: what a fleet sees of Ray."""

    def __init__(self, monkeypatch, *nodes: str) -> None:
        self.nodes, self.opened, self.hosts = set(nodes), 0, {}
        mailbox = SimpleNamespace(
            actors=self._call(lambda index: []),
            hosts=self._call(lambda: self.hosts),
            open_slot=self._call(self._open),
            lose_slot=self._call(lambda index: None),
        )
        listed = lambda: [{"NodeID": node, "Alive": True} for node in self.nodes]  # noqa: E731
        monkeypatch.setattr(fleet, "ray", SimpleNamespace(nodes=listed, get=lambda answer, timeout=None: answer))
        self.counts, self.looks, self.lines, self.faults, self.life = [], [], [], [], Life()
        self.slots_changed = self.counts.append
        logs = SimpleNamespace(last_words=lambda: "\n  worker.err:\n  the last line", faults=lambda: self.faults)
        self.fleet = Fleet(mailbox, self, life=self.life, logs=logs, say=self.lines.append)

    def places(self):
        return len(self.nodes)

    def make_slot(self, index, owner):
        return SimpleNamespace(retire=lambda: None)

    def looked(self, *, is_up):
        self.looks.append(is_up)

    def _call(self, answer):
        return SimpleNamespace(remote=answer)

    def _open(self):
        self.opened += 1
        return self.opened - 1


def test_a_slot_given_up_comes_back_only_with_other_nodes(monkeypatch):
    cluster = Cluster(monkeypatch, "a", "b")
    cluster.fleet._look()
    cluster.fleet.give_up(0, "its workers do not start")
    cluster.fleet._look()
    assert cluster.counts == [2, 1, 1]
    cluster.nodes = {"a", "c"}
    cluster.fleet._look()
    assert cluster.counts[-1] == 2 and cluster.opened == 3


def test_it_tells_whether_any_slot_is_up(monkeypatch):
    cluster = Cluster(monkeypatch, "a", "b")
    cluster.fleet._look()
    cluster.hosts = {0: (), 1: ("b",)}
    cluster.fleet._look()
    cluster.nodes = {"a"}
    cluster.fleet._look()
    assert cluster.looks == [False, True, False]


def test_without_any_node_it_waits_and_says_so_once_in_a_while(monkeypatch):
    cluster = Cluster(monkeypatch)
    cluster.fleet._look()
    cluster.fleet._look()
    assert cluster.lines == ["No node that could hold a slot is left; waiting for one."]
    cluster.nodes = {"a"}
    cluster.fleet._look()
    assert cluster.counts == [0, 0, 1]


def test_a_slot_that_does_not_come_up_is_told_with_its_log_and_once_in_a_while(monkeypatch):
    cluster = Cluster(monkeypatch, "a", "b")
    cluster.hosts = {1: ("b",)}
    now = [0.0]
    monkeypatch.setattr(fleet, "time", SimpleNamespace(monotonic=lambda: now[0]))
    told = "The workers of slot 0 have not come up for 3 minutes; waiting. Ray's log:\n  worker.err:\n  the last line"
    for now[0], lines in (
        (0, 0),
        (fleet.SLOW_SECONDS, 0),
        (fleet.SLOW_SECONDS + 1, 1),
        (fleet.REMIND_SECONDS, 1),
        (2 * fleet.REMIND_SECONDS, 2),
    ):
        cluster.fleet._look()
        assert cluster.lines == [told] * lines
    cluster.hosts = {0: ("a",), 1: ("b",)}
    now[0] = 10 * fleet.REMIND_SECONDS
    cluster.fleet._look()
    assert cluster.lines == [told] * 2


@pytest.mark.parametrize("error", [KeyError("NodeID"), RuntimeError("was not foreseen"), AttributeError("nodes")])
def test_a_look_that_fails_for_good_ends_the_search(monkeypatch, error):
    cluster = Cluster(monkeypatch, "a")
    monkeypatch.setattr(fleet, "LOOK_SECONDS", 0.001)
    cluster.fleet._look()

    def fails():
        raise error

    cluster.places = fails
    cluster.fleet._follow()
    assert cluster.life.trouble == f"the slots cannot be managed any more: {type(error).__name__}: {error}"


def test_a_slot_is_given_up_also_when_the_mailbox_is_gone(monkeypatch):
    cluster = Cluster(monkeypatch, "a")
    cluster.fleet._look()

    def gone(index):
        raise RayActorError

    cluster.fleet._mailbox.lose_slot = SimpleNamespace(remote=gone)
    cluster.fleet.give_up(0, "the mailbox is gone")
    assert cluster.life.trouble == "no slot could be kept running, the last one because: the mailbox is gone"


@pytest.mark.parametrize(
    ("hosts", "faults", "ends"), [({}, [], False), ({}, ["ImportError"], True), ({0: ("a",)}, ["ImportError"], False)]
)
def test_where_the_workers_of_all_slots_end_while_they_import_so_does_the_search(monkeypatch, hosts, faults, ends):
    cluster = Cluster(monkeypatch, "a", "b")
    cluster.hosts, cluster.faults = hosts, faults
    now = [0.0]
    monkeypatch.setattr(fleet, "time", SimpleNamespace(monotonic=lambda: now[0]))
    cluster.fleet._look()
    assert cluster.life.trouble is None
    now[0] = fleet.SICK_SECONDS + 1
    cluster.fleet._look()
    told = "the workers of no slot come up. The end of their log:\n  worker.err:\n  the last line\n"
    assert cluster.life.trouble == (told if ends else None)
