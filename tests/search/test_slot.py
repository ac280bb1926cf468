"""How many slots a cluster holds, and what each asks for."""

import pytest
import ray
from pydantic import ValidationError

from hpa_search.search.settings import Resources
from hpa_search.search.slot import count_slots, in_words, scaling


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
