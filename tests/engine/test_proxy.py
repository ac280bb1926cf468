"""When a proxy hands its leg over; the exchange and the talk with it are stood in for."""

from types import SimpleNamespace

import pytest

from hpa_search.engine import proxy as module
from hpa_search.engine.proxy import Proxy


class Box:
    """Counts what an exchange would be asked."""

    def __init__(self):
        self.calls, self.rows = [], []
        for name in ("hello", "start", "next"):
            setattr(self, name, SimpleNamespace(remote=lambda *arguments, name=name: self._called(name, arguments)))

    def _called(self, name, arguments):
        self.calls.append((name, *arguments))
        return self.rows.pop(0) if name == "next" else f"the promise of {name}"


@pytest.fixture
def box(monkeypatch):
    box = Box()
    monkeypatch.setattr(module, "ray", SimpleNamespace(get=lambda answer: answer, get_actor=lambda name: box))
    return box


def config(number, reported=0):
    return {"exchange": "x", "leg": {"number": number, "reported": reported, "target": 9}}


@pytest.fixture
def proxy(box):
    proxy = Proxy.__new__(Proxy)  # what Tune makes of it beside is of no account
    proxy.setup(config(4))
    return proxy


def test_a_new_process_hands_its_leg_over_when_it_is_asked_for_the_first_step_and_once(proxy, box):
    assert box.calls == [("hello",)]
    box.rows = [[{"epoch": 1}, {"epoch": 2}], [{"stopped": True}]]
    assert proxy.step() == {"number": 4, "rows": [{"epoch": 1}, {"epoch": 2}]}
    assert proxy.step()["rows"] == [{"stopped": True}]
    assert box.calls[1:] == [("start", config(4)["leg"]), ("next", 4, 0), ("next", 4, 2)]


def test_a_reused_one_hands_its_next_leg_over_at_once_and_once(proxy, box):
    assert proxy.reset_config(config(5, reported=3))
    assert box.calls == [("hello",), ("start", config(5, reported=3)["leg"])]
    box.rows = [[{"epoch": 4}]]
    proxy.step()
    assert box.calls[2:] == [("next", 5, 3)]
