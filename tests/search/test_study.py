import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution

from hpa_search.errors import UserError
from hpa_search.search.journal import JOURNAL, cut_torn_line
from hpa_search.search.study import Ledger

SPACE = {"loss": CategoricalDistribution(["bce", "focal"]), "learning_rate": FloatDistribution(1e-4, 1e-1, log=True)}


@pytest.fixture
def ledger(tmp_path):
    return Ledger.create(tmp_path, "toy")


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


def test_a_complete_trial_is_worth_its_best_epoch(ledger):
    number = add(ledger)
    for epoch, value in ((1, 0.2), (2, 0.6), (3, 0.4)):
        ledger.report(number, epoch, value)
    ledger.end(number, "complete", "done")
    assert ledger.frozen()[0].value == 0.6


@pytest.mark.parametrize("torn", [b'{"op_code": 4, "wor', b"\x00\x00\x00"])
def test_a_torn_last_line_is_cut_and_the_journal_lives_on(ledger, tmp_path, torn):
    add(ledger)
    with (tmp_path / JOURNAL).open("ab") as file:
        file.write(torn)
    assert cut_torn_line(tmp_path / JOURNAL) == len(torn)
    again = Ledger.create(tmp_path, "toy")
    add(again)
    assert [facts.number for facts in Ledger.open(tmp_path).trials()] == [0, 1]


def test_every_cut_of_a_journal_leaves_a_prefix_of_the_facts(ledger, tmp_path):
    for _ in range(3):
        ledger.report(add(ledger), 1, 0.5)
    content = (tmp_path / JOURNAL).read_bytes()
    for index, at in enumerate(range(content.index(b"\n") + 1, len(content), 97)):
        folder = tmp_path / str(index)
        folder.mkdir()
        (folder / JOURNAL).write_bytes(content[:at])
        cut_torn_line(folder / JOURNAL)
        shorter = Ledger.create(folder, "toy")
        numbers = [facts.number for facts in shorter.trials()]
        assert numbers == list(range(len(numbers)))
        add(shorter)


def test_no_search_is_said_so(tmp_path):
    with pytest.raises(UserError, match="no search here"):
        Ledger.open(tmp_path)
