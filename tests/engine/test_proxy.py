"""When a proxy hands its leg over; a list of calls stands in for the mailbox."""

from types import SimpleNamespace

import pytest

from hpa_search.engine import proxy as module
from hpa_search.engine.proxy import Proxy
from hpa_search.search.leg import Leg, Released
from tests.engine.played import done


class Box:
    """Notes what a mailbox would be asked."""

    def __init__(self):
        self.calls, self.events = [], []
        for name in ("hello", "start", "next"):
            setattr(self, name, SimpleNamespace(remote=lambda *arguments, name=name: self._called(name, arguments)))

    def _called(self, name, arguments):
        self.calls.append((name, *arguments))
        return self.events.pop(0) if name == "next" else f"the promise of {name}"


@pytest.fixture
def box(monkeypatch):
    box = Box()
    monkeypatch.setattr(module, "ray", SimpleNamespace(get=lambda answer: answer, get_actor=lambda name: box))
    return box


def config(number, reported=0):
    return {"mailbox": "x", "leg": Leg(1, number, {}, reported, 9)}


@pytest.fixture
def proxy(box):
    proxy = Proxy.__new__(Proxy)  # what Tune makes of it beside is of no account
    proxy.setup(config(4))
    return proxy


def test_a_new_process_hands_its_leg_over_when_it_is_asked_for_the_first_step_and_once(proxy, box):
    assert box.calls == [("hello",)]
    leg, box.events = config(4)["leg"], [[done(1), done(2)], [Released()]]
    assert proxy.step() == {"leg": leg, "events": [done(1), done(2)]}
    assert proxy.step()["events"] == [Released()]
    assert box.calls[1:] == [("start", leg), ("next", leg, 0), ("next", leg, 2)]


def test_a_reused_one_hands_its_next_leg_over_at_once_and_once(proxy, box):
    assert proxy.reset_config(config(5, reported=3))
    leg = config(5, reported=3)["leg"]
    assert box.calls == [("hello",), ("start", leg)]
    box.events = [[done(4)]]
    proxy.step()
    assert box.calls[2:] == [("next", leg, 3)]
