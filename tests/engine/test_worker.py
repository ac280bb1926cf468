from contextlib import nullcontext

import pytest
from torch.distributed import DistBackendError

from hpa_search.engine import worker
from hpa_search.engine.worker import run_leg
from hpa_search.training.memory import FewerAtATimeError
from hpa_search.training.ranks import ALONE, Ranks


class Box:
    """Stands where the exchange would, in this process."""

    ranks = ALONE

    def __init__(self, most=99):
        self.rows, self.reports, self.failures, self._most = [], [], [], most
        self.begun_again = []

    def report(self, rows):
        self.reports.append(list(rows))
        self.rows += rows
        return len(self.rows) < self._most

    def begin_again(self, micro_batch):
        self.begun_again.append(micro_batch)

    def fail(self, why, details):
        self.failures.append((why, details))


class Trial:
    def __init__(self, done=0, error=None):
        self.history = [{"epoch": epoch} for epoch in range(1, done + 1)]
        self.error, self.closed = error, False

    def run_epoch(self):
        if self.error:
            raise self.error
        self.history.append({"epoch": len(self.history) + 1})
        return self.history[-1]

    def close(self):
        self.closed = True


def play(trial, reported=0, target=3, most=99):
    box = Box(most)
    run_leg(
        box, {"number": 4, "parameters": {}, "reported": reported, "target": target}, lambda job, number, parameters: trial, None
    )
    return box


def epochs(box):
    return [row["epoch"] for row in box.rows]


def test_a_leg_is_trained_to_its_target():
    trial = Trial()
    assert epochs(play(trial)) == [1, 2, 3]
    assert trial.closed


@pytest.mark.parametrize(
    ("done", "reported", "expected"), [(2, 1, [2, 3]), (2, 2, [3]), (3, 2, [3]), (5, 1, [2, 3]), (0, 2, [1, 2, 3])]
)
def test_what_the_checkpoint_holds_and_the_ledger_does_not_is_reported_once(done, reported, expected):
    assert epochs(play(Trial(done), reported)) == expected


@pytest.fixture
def each(monkeypatch):
    """No epoch is too short to be handed over by itself."""
    monkeypatch.setattr(worker, "SHORT_SECONDS", -1.0)


def test_it_stops_when_told(each):
    assert epochs(play(Trial(), most=2)) == [1, 2]


def test_short_epochs_are_handed_over_together_and_long_ones_at_once(monkeypatch):
    monkeypatch.setattr(worker, "SHORT_SECONDS", 99.0)
    assert [len(rows) for rows in play(Trial(1), target=5).reports] == [1, 4]
    monkeypatch.setattr(worker, "SHORT_SECONDS", -1.0)
    assert [len(rows) for rows in play(Trial(1), target=5).reports] == [1, 1, 1, 1, 1]


def test_short_epochs_before_a_failure_are_handed_over(monkeypatch):
    monkeypatch.setattr(worker, "SHORT_SECONDS", 99.0)
    trial = Trial()
    run_two = trial.run_epoch

    def fails_third():
        if len(trial.history) == 2:
            raise ValueError("the third")
        return run_two()

    trial.run_epoch = fails_third
    box = play(trial, target=5)
    assert epochs(box) == [1, 2] and box.failures[0][0] == "ValueError: the third"


@pytest.mark.parametrize("error", [ValueError("no such thing\nmore"), MemoryError(), KeyError("x")])
def test_an_exception_is_the_trial_s_failure_with_its_traceback(error):
    trial = Trial(error=error)
    box = play(trial)
    ((why, details),) = box.failures
    assert ("out of memory" if isinstance(error, MemoryError) else type(error).__name__) in why and "\n" not in why
    assert "Traceback" in details and "run_epoch" in details
    assert trial.closed


def test_an_error_that_poisons_the_device_ends_the_worker():
    trial = Trial(error=RuntimeError("CUDA error: an illegal memory access was encountered"))
    with pytest.raises(RuntimeError):
        play(trial)
    assert trial.closed


@pytest.mark.parametrize("ranks", [ALONE, Ranks(1, 2, object())])
@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: out of memory"),
        DistBackendError("NCCL error: unhandled cuda error, Cuda failure 2 'out of memory'"),
    ],
)
def test_want_of_memory_is_the_trial_s_failure_also_where_it_ends_the_worker(error, ranks):
    box, trial = Box(), Trial(error=error)
    box.ranks = ranks
    leg = {"number": 4, "parameters": {}, "reported": 0, "target": 3}
    with pytest.raises(RuntimeError) if ranks.several or "CUDA error" in str(error) else nullcontext():
        run_leg(box, leg, lambda *given: trial, None)
    assert box.failures[0][0].startswith("out of memory: ") and trial.closed


def test_a_trial_that_cannot_be_opened_fails():
    box = Box()

    def refuse(job, number, parameters):
        raise OSError("disk on fire")

    run_leg(box, {"number": 0, "parameters": {}, "reported": 0, "target": 1}, refuse, None)
    assert box.failures[0][0] == "OSError: disk on fire"


class Shared(Box):
    ranks = Ranks(1, 2, object())


@pytest.mark.parametrize(
    ("error", "failures"),
    [
        (ValueError("no such thing"), ["ValueError: no such thing"]),
        (MemoryError("not even one image"), ["out of memory: not even one image"]),
        (RuntimeError("[gloo/transport/tcp/pair.cc:5] Connection closed by peer [10.0.0.1]:99"), []),
    ],
)
def test_one_of_several_hands_over_its_own_failure_and_ends_the_group(error, failures):
    box, trial, opened = Shared(), Trial(error=error), []

    def open_trial(*arguments):
        opened.append(arguments)
        return trial

    with pytest.raises(type(error)):
        run_leg(box, {"number": 4, "parameters": {}, "reported": 0, "target": 1}, open_trial, None)
    assert [why for why, _ in box.failures] == failures
    assert opened == [(None, 4, {}, box.ranks, None)] and trial.closed and not box.begun_again


def test_one_of_several_without_memory_ends_the_group_and_the_next_one_begins_with_fewer_images():
    box, opened = Shared(), []

    def open_trial(*arguments):
        opened.append(arguments)
        return Trial(error=FewerAtATimeError(8))

    with pytest.raises(FewerAtATimeError):
        run_leg(box, {"number": 4, "parameters": {}, "reported": 0, "target": 1, "micro_batch": 16}, open_trial, None)
    assert box.begun_again == [8] and not box.failures
    assert opened == [(None, 4, {}, box.ranks, 16)]
