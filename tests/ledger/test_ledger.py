import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState

from hpa_search.errors import UserError
from hpa_search.ledger.ledger import Ledger, LedgerError
from hpa_search.ledger.study_place import choose_study

SPACE = {"loss": CategoricalDistribution(["bce", "focal"]), "learning_rate": FloatDistribution(1e-4, 1e-1, log=True)}


def add(ledger):
    number = len(ledger.trials())
    ledger.add(number, {"loss": "bce", "learning_rate": 0.01}, SPACE, target=1)
    return number


def test_facts_survive_another_process_reading_them(ledger, tmp_path):
    number = add(ledger)
    ledger.report(number, 1, 0.25)
    ledger.report(number, 2, 0.5)
    ledger.set_target(number, 3)
    (facts,) = Ledger.open(tmp_path).trials()
    assert facts.parameters == {"loss": "bce", "learning_rate": 0.01}
    assert (facts.target, facts.reports, facts.end, facts.epochs) == (3, {1: 0.25, 2: 0.5}, None, 2)


def test_ending_a_trial_again_changes_nothing(ledger):
    number = add(ledger)
    ledger.report(number, 1, 0.25)
    ledger.end(number, "complete", "first")
    ledger.end(number, "failed", "second")
    (facts,) = ledger.trials()
    assert (facts.end, facts.ended) == ("complete", "first")


def test_a_trial_that_is_set_aside_is_pruned(ledger, tmp_path):
    number = add(ledger)
    ledger.report(number, 1, 0.25)
    ledger.set_aside(number, "not promoted after epoch 1")
    (facts,) = Ledger.open(tmp_path).trials()
    assert (facts.end, facts.ended, facts.set_aside) == ("pruned", "not promoted after epoch 1", True)
    assert (ledger.frozen()[0].state, ledger.frozen()[0].value) == (TrialState.PRUNED, 0.25)


def test_a_complete_trial_is_worth_its_best_epoch(ledger):
    number = add(ledger)
    for epoch, value in ((1, 0.2), (2, 0.6), (3, 0.4)):
        ledger.report(number, epoch, value)
    ledger.end(number, "complete", "done")
    assert ledger.frozen()[0].value == 0.6


def test_no_search_is_said_so(tmp_path):
    with pytest.raises(UserError, match="no search here"):
        Ledger.open(tmp_path)


def test_notes_and_many_trials_are_kept(ledger, tmp_path):
    for number in range(12):
        assert add(ledger) == number
    ledger.note("lease", {"holder": "a", "beat": 1})
    ledger.note("lease", {"holder": "a", "beat": 2})
    assert Ledger.open(tmp_path).noted()["lease"] == {"holder": "a", "beat": 2}
    assert [facts.number for facts in Ledger.open(tmp_path).trials()] == list(range(12))


def test_a_trial_that_was_added_already_is_not_added_again(ledger):
    """As when a connection was lost after its work was done."""
    for _ in range(2):
        ledger.add(0, {"loss": "bce", "learning_rate": 0.01}, SPACE, target=1)
    assert len(ledger.trials()) == 1


def test_two_searches_in_one_database_do_not_meet(tmp_path, postgres_url):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        choose_study(tmp_path / name, postgres_url, "toy")
    add(Ledger.create(tmp_path / "a", "toy"))
    assert not Ledger.create(tmp_path / "b", "toy").trials()


def test_a_server_that_is_away_is_waited_for(tmp_path, own_postgres):
    said, told = [], threading.Event()
    choose_study(tmp_path, own_postgres.url, "toy")
    ledger = Ledger.create(tmp_path, "toy", tell=lambda line: (said.append(line), told.set()))
    add(ledger)
    own_postgres.stop()
    with ThreadPoolExecutor() as other:
        restart = other.submit(lambda: told.wait(60) and own_postgres.start())
        ledger.report(0, 1, 0.5)
        restart.result()
    assert [facts.reports for facts in Ledger.open(tmp_path).trials()] == [{1: 0.5}]
    assert len(said) == 2
    assert "does not answer" in said[0]
    assert "answers again" in said[1]


def test_a_server_that_stays_away_is_named(tmp_path, own_postgres):
    choose_study(tmp_path, own_postgres.url, "toy")
    ledger = Ledger.create(tmp_path, "toy", seconds=1)
    own_postgres.stop()
    try:
        with pytest.raises(LedgerError, match="database is away.*did not answer.*refused"):
            ledger.note("a", 1)
        with pytest.raises(UserError, match="cannot be used.*PGPASSWORD"):
            Ledger.open(tmp_path)
    finally:
        own_postgres.start()


def test_reading_begins_no_study_and_a_lost_one_is_not_begun_anew(tmp_path):
    url = f"sqlite:///{tmp_path}/study.db"
    choose_study(tmp_path, url, "toy")
    with pytest.raises(UserError, match="holds no search yet"):
        Ledger.open(tmp_path)
    add(Ledger.create(tmp_path, "toy"))
    (tmp_path / "study.db").unlink()
    for look in (lambda: Ledger.open(tmp_path), lambda: Ledger.create(tmp_path, "toy")):
        with pytest.raises(UserError, match="knows no study toy-.*restore that database"):
            look()


def test_a_driver_that_was_asleep_writes_nothing_into_its_successors_ledger(ledger, tmp_path, monkeypatch):
    from hpa_search.ledger import lease

    monkeypatch.setattr(lease, "BEAT_SECONDS", 0.1)
    monkeypatch.setattr(lease, "LEASE_SECONDS", 0.3)
    first = lease.Lease(ledger, spent=0.0)
    first._ended.set()  # its threads stand still, as those of a machine that is suspended
    first._thread.join()
    time.sleep(0.4)
    successor = lease.Lease(Ledger.create(tmp_path, "toy"), spent=0.0)
    add(successor.ledger)
    for write in (lambda: ledger.report(0, 1, 0.5), lambda: ledger.note("a", 1), lambda: ledger.end(0, "pruned", "why")):
        with pytest.raises(LedgerError, match="another driver has taken this search"):
            write()
    successor.ledger.report(0, 1, 0.25)
    successor.release()
    assert Ledger.open(tmp_path).trials()[0].reports == {1: 0.25}


def test_anothers_trial_is_not_taken_for_ones_own(ledger):
    ledger.add(0, {"loss": "bce", "learning_rate": 0.01}, SPACE, target=1)
    with pytest.raises(LedgerError, match="another driver has added trial 0"):
        ledger.add(0, {"loss": "focal", "learning_rate": 0.02}, SPACE, target=1)


def test_a_journal_that_is_gone_is_not_begun_anew(tmp_path):
    (tmp_path / "trials/0000").mkdir(parents=True)
    (tmp_path / "trials/0000/checkpoint.pt").touch()
    with pytest.raises(UserError, match="study.journal: is missing"):
        Ledger.create(tmp_path, "toy")
