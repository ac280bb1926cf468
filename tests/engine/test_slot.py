"""How many slots a cluster holds, and what each asks for."""

from types import SimpleNamespace

import pytest
import ray
from pydantic import ValidationError
from ray.exceptions import RayActorError

from hpa_search.engine import slot as module
from hpa_search.engine.slot import MOST_ENDS, Slot, count_slots, in_words, scaling
from hpa_search.space.settings import Resources


def cluster(monkeypatch, *nodes):
    """Let the cluster have nodes of so many CPUs and GPUs each, and one that is dead."""
    alive = [{"Alive": True, "Resources": {"CPU": cpus, **({"GPU": gpus} if gpus else {})}} for cpus, gpus in nodes]
    monkeypatch.setattr(ray, "nodes", lambda: [*alive, {"Alive": False, "Resources": {"CPU": 99.0, "GPU": 99.0}}])


@pytest.mark.parametrize(
    ("workers", "cpus", "gpus", "nodes", "slots"),
    [
        (1, 2, 0, [(8, 0), (3, 0)], 5),
        (1, 1, 0.5, [(8, 2)], 4),
        (2, 2, 0, [(8, 0), (3, 0)], 2),
        (2, 1, 1, [(8, 1), (8, 1), (8, 1)], 1),
        (2, 1, 0.0, [(1, 0), (1, 0)], 1),
        (4, 1, 1, [(8, 4), (2, 4)], 1),
    ],
)
def test_the_workers_of_a_slot_may_be_on_several_nodes(monkeypatch, workers, cpus, gpus, nodes, slots):
    cluster(monkeypatch, *nodes)
    assert count_slots(Resources(workers=workers, cpus=cpus), gpus) == slots
    assert count_slots(Resources(workers=workers, cpus=cpus, slots=1), gpus) == 1


@pytest.mark.parametrize(("workers", "cpus"), [(1, 9), (2, 9), (3, 4)])
def test_a_cluster_that_is_too_small_holds_no_slot(monkeypatch, workers, cpus):
    cluster(monkeypatch, (4, 0), (4, 0))
    assert count_slots(Resources(workers=workers, cpus=cpus), 0) == 0


def test_a_slot_asks_for_its_workers():
    asked = scaling(Resources(workers=3, cpus=2), 1)
    assert (asked.num_workers, asked.use_gpu, asked.resources_per_worker) == (3, True, {"CPU": 2.0, "GPU": 1})
    assert scaling(Resources(), 0).num_workers == 1


def test_what_a_slot_has_in_words():
    assert in_words(Resources(cpus=2), 0.5) == "each 2 CPU(s) and 0.5 GPU(s)"
    assert in_words(Resources(workers=2), 1) == "each of 2 workers with 1 CPU(s) and 1 GPU(s)"


@pytest.mark.parametrize("workers", [0, 1025, 1.5])
def test_workers_are_a_whole_number(workers):
    with pytest.raises(ValidationError):
        Resources(workers=workers)


def test_several_workers_do_not_share_a_gpu():
    with pytest.raises(ValidationError, match="cannot share a GPU"):
        Resources(workers=2, gpus=0.5)
    assert Resources(workers=2, gpus=2.0).gpus == 2


def ended(monkeypatch, *, run="its run ended", groups=0, closed=lambda: False, not_begun=""):
    """Return why a slot is given up whose runs end as ``run`` says, with a mailbox that counts ``groups``; None if it is not."""
    why = []

    def fit(self, number):
        if isinstance(run, BaseException):
            raise run
        return run

    monkeypatch.setattr(Slot, "_fit", fit)
    monkeypatch.setattr(module, "ray", SimpleNamespace(get=lambda answer: answer))
    call = lambda answer: SimpleNamespace(remote=answer)  # noqa: E731
    mailbox = SimpleNamespace(
        is_closed=call(closed),
        groups_started=call(lambda index: groups),
        run_begins=call(lambda index: None),
        why_not_begun=call(lambda index: not_begun),
    )
    owner = SimpleNamespace(give_up=lambda index, told: why.append(told))
    slot = Slot(0, owner, mailbox=mailbox, scaling=None, scratch=None, work=b"")
    slot.join(30)
    assert not slot.is_running
    return why[0] if why else None


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (AttributeError("'NoneType' object has no attribute 'fit'"), "AttributeError: 'NoneType' object has no attribute 'fit'"),
        (ImportError("libcudart.so: cannot open\nshared object file"), "ImportError: shared object file"),
        (RuntimeError(), "RuntimeError: RuntimeError"),
        (RayActorError(), "the mailbox between slots and trials is gone"),
    ],
)
def test_whatever_ends_a_slots_thread_is_told(monkeypatch, error, why):
    assert ended(monkeypatch, run=error).startswith(why)


def test_a_run_that_ends_again_and_again_is_given_up_with_what_was_raised(monkeypatch):
    runs = []
    why = ended(monkeypatch, run="Traceback\n  ...\nValueError: no such thing", closed=lambda: runs.append(1))
    assert (why, len(runs)) == ("ValueError: no such thing", MOST_ENDS)


def test_a_worker_that_cannot_begin_gives_its_slot_up_with_the_reason(monkeypatch):
    assert ended(monkeypatch, not_begun="ModuleNotFoundError: No module named 'x'") == "ModuleNotFoundError: No module named 'x'"


def test_a_closed_mailbox_ends_a_slot_without_a_word(monkeypatch):
    assert ended(monkeypatch, closed=lambda: True) is None
