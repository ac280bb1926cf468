"""A finished search that is extended goes on in a copy of its study."""

import shutil

import pytest
from optuna.distributions import FloatDistribution
from optuna.study import StudyDirection
from optuna.trial import TrialState

from hpa_search.ledger.ledger import Ledger, LedgerError
from hpa_search.ledger.study_place import read_study_place

SPACE = {"learning_rate": FloatDistribution(1e-4, 1e-1, log=True)}


class KilledError(Exception):
    """The driver was killed."""


def finish(ledger):
    """Add a complete trial, two that are set aside, a failed one and a pruned one; return how the study shows them."""
    for number in range(5):
        ledger.add(number, {"learning_rate": 0.001 * (number + 1)}, SPACE, target=1)
    for number in range(4):
        ledger.report(number, 1, 0.1 * (number + 1))
    ledger.end(0, "complete", "done")
    ledger.set_aside(1, "not promoted")
    ledger.set_aside(2, "not promoted")
    ledger.end(3, "pruned", "bad")
    ledger.end(4, "failed", "broken")
    ledger.note("finished", True)
    return shown(ledger)


def shown(ledger):
    return [(trial.number, trial.state, trial.params, trial.intermediate_values, trial.value) for trial in ledger.frozen()]


def extensions(ledger, out):
    """Return what is said behind the search's name, which a database makes unique, in the names of its studies."""
    place = read_study_place(out)
    name = "toy" if place is None else place.name
    names = [study.study_name for study in ledger.storage.get_all_studies()]
    return sorted(found.removeprefix(name) for found in names if found.startswith(name))


def test_a_finished_search_shows_no_trial_running_and_is_taken_up_in_a_copy(ledger, tmp_path):
    before = finish(ledger)
    assert TrialState.RUNNING not in [state for _, state, *_ in before]
    watcher = Ledger.open(tmp_path)
    ledger.take_up()
    running = [trial.number for trial in ledger.frozen() if trial.state == TrialState.RUNNING]
    assert running == [1, 2]
    assert [row for row in shown(ledger) if row[0] not in running] == [row for row in before if row[0] not in running]
    assert [(facts.end, facts.epochs, facts.set_aside) for facts in ledger.trials()[1:3]] == [(None, 1, False)] * 2
    ledger.report(1, 2, 0.7)
    ledger.end(1, "complete", "done")
    for again in (ledger, Ledger.open(tmp_path), Ledger.create(tmp_path, "toy")):
        assert again.trials() == ledger.trials() and again.trials()[1].ended == "done"
        assert again.noted()["finished"] is True
    assert shown(watcher) == before  # the study before keeps what it had
    watcher.noted()
    assert watcher.trials() == ledger.trials()
    ledger.set_aside(2, "again")
    ledger.take_up()
    assert extensions(ledger, tmp_path) == ["", ", extended 1", ", extended 2"]
    assert [facts.end for facts in Ledger.open(tmp_path).trials()] == ["complete", "complete", None, "pruned", "failed"]


def test_killed_at_any_write_of_the_copy_the_search_is_whole_and_is_taken_up_again(tmp_path, monkeypatch):
    (tmp_path / "before").mkdir()
    before = Ledger.create(tmp_path / "before", "toy")
    finish(before)
    for fatal in range(100):
        out = shutil.copytree(tmp_path / "before", tmp_path / str(fatal))
        driver, left = Ledger.create(out, "toy"), [fatal]
        with monkeypatch.context() as patched:
            for name in ("create_new_study", "create_new_trial", "set_study_user_attr"):
                patched.setattr(driver.storage, name, dying(getattr(driver.storage, name), left))
            try:
                driver.take_up()
                break
            except KilledError:
                assert Ledger.open(out).trials() == before.trials()
        again = Ledger.create(out, "toy")
        again.take_up()
        assert [facts.end for facts in Ledger.open(out).trials()] == ["complete", None, None, "pruned", "failed"]
        # Killed before it was marked as a copy, an empty study stays: it might be somebody's.
        assert extensions(again, out) == ["", ", extended 1", ", extended 2"][: 2 if fatal != 1 else 3]
    assert fatal == 10  # a study, its two marks, the note, five trials, and the link


def dying(method, left):
    """Return ``method``, which does as it should for as many calls as ``left`` holds."""

    def call(*arguments, **named):
        left[0] -= 1
        if left[0] < 0:
            raise KilledError
        return method(*arguments, **named)

    return call


def test_a_study_of_somebody_else_is_left_alone(ledger, tmp_path):
    finish(ledger)
    place = read_study_place(tmp_path)
    name = "toy" if place is None else place.name
    theirs = ledger.storage.create_new_study([StudyDirection.MAXIMIZE], f"{name}, extended 1")
    ledger.take_up()
    assert ledger.storage.get_all_trials(theirs) == []
    assert extensions(ledger, tmp_path) == ["", ", extended 1", ", extended 2"]


def test_who_has_lost_the_search_writes_into_no_study_of_it(ledger, tmp_path):
    """A driver that was away while another one took its search up must find out by the copy's lease, not by the old one's."""
    finish(ledger)
    ledger.note("lease", {"holder": "mine"})
    away = Ledger.open(tmp_path)
    ledger.take_up()
    ledger.note("lease", {"holder": "another"})

    def guard():
        if away.noted()["lease"]["holder"] != "mine":
            raise LedgerError("another driver has taken this search")

    away.guard = guard
    with pytest.raises(LedgerError):
        away.note("finished", False)
