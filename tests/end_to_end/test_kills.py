"""Kills of every part of a running search. The trials sleep instead of training; Ray is real."""

import os
import random
import signal
import time

import pytest

from tests.end_to_end.conftest import check_accounts, epochs_begun

pytestmark = pytest.mark.ray
SEED = 11


def test_a_search_with_failing_trials_ends(start_search):
    """Trials that raise or meet NaN fail, and so does a trial that kills all its workers. The search continues."""
    search = start_search(trials=10, kind="none", top=2, raises_in=[1], nan_in=[2], kills_in=[0])
    assert search.wait() == 0
    trials = check_accounts(search.out, 10)
    for number, words in ((0, "worker died"), (1, "this trial raises"), (2, "nan")):
        assert trials[number].end == "failed" and words in trials[number].ended
    for number in (0, 1):
        assert (search.out / "trials" / f"{number:04d}" / "error.txt").read_text()
    assert epochs_begun(search.out, 0) == {1: 1, 2: 2}
    assert all(trial.end == "complete" for trial in trials[3:])
    assert not search.left_behind()


@pytest.mark.parametrize(
    "victim",
    ["ray::RayTrainWorker", "ray::ResourceTrainable", "ray::TrainController"],
)
def test_a_killed_process_costs_no_trial_and_no_epoch(start_search, victim):
    search = start_search(trials=6, seconds=1.0)
    search.wait_until(lambda trials: any(trial.epochs >= 2 for trial in trials))
    for process in search.descendants(victim):
        process.send_signal(signal.SIGKILL)
        break
    else:
        pytest.fail(f"no process {victim}")
    assert search.wait() == 0
    trials = check_accounts(search.out, 6)
    assert all(trial.end in ("complete", "pruned") for trial in trials)
    begun = [epochs_begun(search.out, trial.number) for trial in trials]
    # Only the epoch that was cut off is begun again: the trial resumed at its checkpoint.
    assert sum(sum(counts.values()) - len(counts) for counts in begun) <= 1


@pytest.mark.slow
def test_sigkill_of_everything_at_random_moments_loses_nothing(start_search):
    chooser = random.Random(SEED)
    epochs_before: dict[int, dict[int, float]] = {}
    for _ in range(5):
        search = start_search(trials=12, seconds=0.3)
        known = sum(map(len, epochs_before.values()))
        search.wait_until(lambda trials, known=known: sum(trial.epochs for trial in trials) > known)
        time.sleep(chooser.uniform(0, 2))
        search.kill_all()
        trials = {trial.number: trial.reports for trial in search_trials(search)}
        for number, reports in epochs_before.items():
            assert reports.items() <= trials[number].items()
        epochs_before = trials
    search = start_search(trials=12, seconds=0.05)
    assert search.wait() == 0
    final = {trial.number: trial.reports for trial in check_accounts(search.out, 12)}
    for number, reports in epochs_before.items():
        assert reports.items() <= final[number].items()


def test_sigint_stops_cleanly_and_the_search_goes_on(start_search):
    search = start_search(trials=6, seconds=0.5)
    search.wait_until(lambda trials: any(trial.epochs >= 1 for trial in trials))
    os.killpg(search.process.pid, signal.SIGINT)  # as a terminal does: to everything in the foreground
    assert search.wait(60) == 3
    again = start_search(trials=6, seconds=0.05)
    assert again.wait() == 0
    check_accounts(again.out, 6)


def search_trials(search):
    from hpa_search.ledger.journal import JOURNAL, cut_torn_line
    from hpa_search.ledger.ledger import Ledger

    cut_torn_line(search.out / JOURNAL)
    return Ledger.open(search.out).trials()
