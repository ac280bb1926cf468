import errno
import os
import time
from contextlib import nullcontext
from dataclasses import replace

import pytest
from torch.distributed import DistBackendError

from hpa_search.engine.worker import Trials, run_leg
from hpa_search.errors import UserError
from hpa_search.search.leg import Halted, Leg, Released
from hpa_search.training.checkpoint import TakenOverError
from hpa_search.training.memory import FewerAtATimeError
from hpa_search.training.ranks import ALONE, Ranks

LEG = Leg(id=1, number=4, parameters={}, reported=0, target=3)


class Box:
    """Stands where a worker's address at the mailbox would, in this process."""

    ranks = ALONE

    def __init__(self, most=99):
        self.reports, self.ends, self._most, self.begun_again = [], [], most, []

    def report(self, *reports):
        self.reports += reports
        return len(self.reports) < self._most

    def begin_again(self, micro_batch):
        self.begun_again.append(micro_batch)

    def end(self, how):
        self.ends.append(how)


def row(epoch):
    return {"epoch": epoch, "objective": 0.5}


class Trial:
    def __init__(self, done=0, error=None):
        self.history = [row(epoch) for epoch in range(1, done + 1)]
        self.error, self.closed = error, False

    def run_epoch(self):
        if self.error:
            raise self.error
        self.history.append(row(len(self.history) + 1))
        return self.history[-1]

    def close(self):
        self.closed = True


def play(trial, reported=0, most=99):
    box = Box(most)
    run_leg(box, replace(LEG, reported=reported), Trials(lambda job, number, parameters: trial, None))
    return box


def epochs(box):
    return [report.epoch for report in box.reports]


def test_a_leg_is_trained_to_its_target():
    trial = Trial()
    box = play(trial)
    assert epochs(box) == [1, 2, 3] and trial.closed and not box.ends


@pytest.mark.parametrize(
    ("done", "reported", "expected"), [(2, 1, [2, 3]), (2, 2, [3]), (3, 2, [3]), (5, 1, [2, 3]), (0, 2, [1, 2, 3])]
)
def test_what_the_checkpoint_holds_and_the_ledger_does_not_is_reported_once(done, reported, expected):
    assert epochs(play(Trial(done), reported)) == expected


def test_the_first_epoch_of_a_leg_tells_what_went_before_it():
    box = Box()
    run_leg(box, LEG, Trials(lambda job, number, parameters: time.sleep(0.05) or Trial(), None), waited=2.5)
    told = [{name for name in report.metrics if name.endswith("_seconds")} for report in box.reports]
    assert told == [{"waiting_seconds", "start_seconds"}, set(), set()]
    assert box.reports[0].metrics["waiting_seconds"] == 2.5 and box.reports[0].metrics["start_seconds"] >= 0.05


def test_it_stops_when_told():
    assert epochs(play(Trial(), most=2)) == [1, 2]


def test_each_epoch_is_handed_over_before_the_next_is_trained():
    trial = Trial()
    run_one = trial.run_epoch

    def fails_third():
        if len(trial.history) == 2:
            raise ValueError("the third")
        return run_one()

    trial.run_epoch = fails_third
    box = play(trial)
    assert epochs(box) == [1, 2] and box.ends[0].why == "ValueError: the third"


@pytest.mark.parametrize(
    ("error", "end"),
    [
        (UserError("s3://bucket: refuses"), Halted("s3://bucket: refuses")),
        (TakenOverError("another driver has it"), Released()),
    ],
)
def test_what_is_no_trial_s_fault_fails_no_trial(error, end):
    assert play(Trial(error=error)).ends == [end]


def test_a_full_disk_halts_every_trial():
    (end,) = play(Trial(error=OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))).ends
    assert isinstance(end, Halted) and "No space left" in end.why


@pytest.mark.parametrize("error", [ValueError("no such thing\nmore"), MemoryError(), KeyError("x")])
def test_an_exception_is_the_trial_s_failure_with_its_traceback(error):
    trial = Trial(error=error)
    box = play(trial)
    (end,) = box.ends
    assert ("out of memory" if isinstance(error, MemoryError) else type(error).__name__) in end.why and "\n" not in end.why
    assert "Traceback" in end.details and "run_epoch" in end.details
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
    with pytest.raises(RuntimeError) if ranks.several or "CUDA error" in str(error) else nullcontext():
        run_leg(box, LEG, Trials(lambda *given: trial, None))
    assert box.ends[0].why.startswith("out of memory: ") and trial.closed


def test_a_trial_that_cannot_be_opened_fails():
    box = Box()

    def refuse(job, number, parameters):
        raise OSError("disk on fire")

    run_leg(box, LEG, Trials(refuse, None))
    assert box.ends[0].why == "OSError: disk on fire"


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
        run_leg(box, LEG, Trials(open_trial, None))
    assert [end.why for end in box.ends] == failures
    assert opened == [(None, 4, {}, box.ranks, None)] and trial.closed and not box.begun_again


def test_one_of_several_without_memory_ends_the_group_and_the_next_one_begins_with_fewer_images():
    box, opened = Shared(), []

    def open_trial(*arguments):
        opened.append(arguments)
        return Trial(error=FewerAtATimeError(8))

    with pytest.raises(FewerAtATimeError):
        run_leg(box, replace(LEG, micro_batch=16), Trials(open_trial, None))
    assert box.begun_again == [8] and not box.ends
    assert opened == [(None, 4, {}, box.ranks, 16)]
