"""The crew that labels on slots, with actors that fail, hang or never come up."""

from types import SimpleNamespace

import numpy as np
import pytest
from ray.exceptions import ActorUnavailableError, RayTaskError

from hpa_search.engine import labelling as module
from hpa_search.engine.labelling import MOST_TRIES, _Crew, _key, _Portion
from hpa_search.errors import UserError
from hpa_search.space.settings import Resources
from tests.training.trial import CONFIG


class Call:
    """What an actor was asked for; ``portion`` is None while it comes up."""

    def __init__(self, actor, portion):
        self.actor, self.portion = actor, portion


class Actor:
    def __init__(self, answer):
        self.answer, self.ready = answer, SimpleNamespace(remote=lambda: Call(self, None))


HANGS = object()


@pytest.fixture
def crew(monkeypatch):
    """Return a function that makes a crew of actors with these answers, each a function of a call; the last serves all that follow."""

    def wait(references, num_returns, timeout):
        there = [call for call in references if call.actor.answer(call) is not HANGS]
        return there[:1], []

    def get(call):
        found = call.actor.answer(call)
        if isinstance(found, Exception):
            raise found
        return found

    def make(*answers):
        coming = iter(answers)
        said = []
        monkeypatch.setattr(module, "ray", SimpleNamespace(wait=wait, get=get, kill=lambda actor: None))
        monkeypatch.setattr(module, "count_slots", lambda resources, gpus: len(answers))
        crew = _Crew(Resources(cpus=1, gpus=0), 0.0, lambda: Actor(next(coming, answers[-1])), said.append)
        return crew, said

    return make


def works(call):
    return "up" if call.portion is None else call.portion.rows


def hangs(call):
    return "up" if call.portion is None else HANGS


def never_up(call):
    return HANGS


def cannot_be_built(call):
    return ActorUnavailableError("no module named x", None)


def portions(count, key="the same"):
    return [_Portion(0, start, np.array([start]), key) for start in range(count)]


def labelled(crew, wanted):
    return sorted(portion.start for portion, _ in crew.compute(wanted, Call))


def test_each_portion_comes_back_once_also_of_two_equal_networks(crew):
    assert labelled(crew(works, works)[0], portions(5)) == [0, 1, 2, 3, 4]


def test_a_node_that_cannot_build_an_actor_costs_nothing(crew):
    assert labelled(crew(cannot_be_built, works, works)[0], portions(5)) == [0, 1, 2, 3, 4]


def test_what_hangs_or_never_comes_up_is_done_by_others_also_the_next_time(crew):
    found, _ = crew(hangs, never_up, works)
    assert labelled(found, portions(5)) == [0, 1, 2, 3, 4]
    assert labelled(found, portions(3)) == [0, 1, 2]


def test_without_any_actor_it_says_why_it_waits(crew):
    answers = iter([HANGS, HANGS, *["up"] * 9])
    found, said = crew(lambda call: next(answers) if call.portion is None else call.portion.rows)
    assert labelled(found, portions(1)) == [0]
    assert said == ["No slot has come up yet: the cluster's places are taken, or their nodes are not there."] * 2


def test_portions_that_fail_everywhere_end_it_with_what_was_raised(crew):
    asked = []

    def fails(call):
        if call.portion is None:
            return "up"
        return RayTaskError("label", "Traceback\n  ...\nRuntimeError: CUDA error", RuntimeError("CUDA error"))

    def start(actor, portion):
        asked.append(portion)
        return Call(actor, portion)

    with pytest.raises(UserError, match="again and again: RuntimeError: CUDA error"):
        list(crew(fails)[0].compute(portions(1), start))
    assert len(asked) == MOST_TRIES


def test_a_network_that_cannot_be_used_ends_it_at_once(crew):
    def fails(call):
        error = UserError("weights.safetensors: its weights do not fit")
        return "up" if call.portion is None else RayTaskError("label", "Traceback", error)

    with pytest.raises(UserError, match="do not fit"):
        list(crew(fails)[0].compute(portions(1), Call))


def test_what_is_kept_is_of_these_images_and_no_others():
    network = SimpleNamespace(config=CONFIG, mean=[0.1], std=[0.2])
    rows = np.array([0, 1])
    keys = {_key(network, "hash", "test", rows, ids, tta) for ids in (["a", "b"], ["a", "c"]) for tta in ("none", "mean")}
    assert len(keys) == 4
    assert _key(network, "hash", "test", rows, ["a", "b", "c"], "none") in keys
