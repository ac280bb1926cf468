"""Searches without one of the folds: what they train, what their files say, and how they resume."""

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpa_search.data.kaggle import read_dataset
from hpa_search.data.packed import pack
from hpa_search.data.splits import read_split
from hpa_search.errors import UserError
from hpa_search.ledger import lease
from hpa_search.ledger.ledger import Ledger
from hpa_search.ledger.status import read_status
from hpa_search.phantom.dataset import make_phantom
from hpa_search.search.agenda import Agenda
from hpa_search.search.folds import FoldTrial, fold_search, place, prepare_fold, search_text, trials_of
from hpa_search.search.leg import EpochReport
from hpa_search.search.suggestions import suggest
from hpa_search.search.workspace import Inputs, prepare, read_workspace
from hpa_search.space.parsing import parse_checked, parse_search

TEXT = """
name: toy
about: {system: S0, source: report, reported: "0.5", protocol: one split}
seed: 3
fixed: {full_size: 32, small_size: 32, backbone: test_resnet}
space:
  loss: {choice: [focal, bce]}
  gamma: {range: [0.5, 3.0], when: {loss: [focal]}}
  learning_rate: {log_range: [1.0e-6, 1.0e-2]}
start_points: [{loss: bce}]
objective: {min_positives: 2}
split: {folds: 4, test: 0.1, seed: 1}
budget: {hours: 2}
scheduler: {max_epochs: 20, patience: 2}
final: {members: 7}
"""


@pytest.fixture(scope="module")
def toy():
    return parse_search(TEXT, "toy.yaml")


def drawn(search, count):
    """What Optuna draws for so many trials, all digits of it."""
    return tuple(FoldTrial(suggest(search, number, [])[0], number + 1) for number in range(count))


def test_it_trains_given_configurations_for_given_epochs_and_chooses_nothing(toy):
    trials = drawn(toy, 5)
    search = fold_search(toy, 2, trials)
    assert (search.name, search.split.fold, search.split.folds, search.split.seed) == ("toy-fold-2", 2, 4, 1)
    assert (search.scheduler.kind, search.scheduler.patience, search.rungs) == ("none", None, (20,))
    assert [search.most_epochs(number) for number in range(6)] == [1, 2, 3, 4, 5, 20]
    assert search.most_trials == 5 and search.budget.hours is None
    assert search.seed != toy.seed and fold_search(toy, 1, trials).seed != search.seed
    for number, trial in enumerate(trials):
        assert suggest(search, number, [], start_point=search.points[number])[0] == trial.parameters
        assert search.trial_config(search.points[number]) == toy.trial_config(trial.parameters)


def test_its_file_is_read_back_to_the_last_digit_and_leaves_nothing_else(toy):
    trials = drawn(toy, 12)
    search = fold_search(toy, 3, trials)
    text = search_text(search, toy)
    again = parse_checked(text, "search.yaml")
    assert again == search and trials_of(again) == trials and list(again.space) == list(toy.space)
    assert text.startswith(
        "# Made by `hpa-search finish --folds`: members of the search toy, trained without fold 3.\nname: toy-fold-3\n"
    )
    assert "about" not in text and "final" not in text and "min_epochs" not in text


def test_a_grid_and_a_long_name_and_the_last_seed():
    text = TEXT.replace("seed: 3", "seed: 2147483647").replace("name: toy", f"name: {'x' * 64}")
    text = text.replace(
        "  gamma: {range: [0.5, 3.0], when: {loss: [focal]}}\n  learning_rate: {log_range: [1.0e-6, 1.0e-2]}\n", ""
    )
    grid = parse_search(text.replace("start_points: [{loss: bce}]", "sampler: grid"), "grid.yaml")
    search = fold_search(grid, 1, [FoldTrial(point, 2) for point in grid.points])
    assert search.points == grid.points and search.sampler == "random"
    assert search.name == "x" * 57 + "-fold-1" and search.seed == 0


@given(st.lists(st.integers(0, 3), max_size=8), st.lists(st.integers(0, 3), min_size=1, max_size=8), st.sets(st.integers(0, 7)))
def test_what_is_wanted_gets_trials_of_its_own_and_what_is_there_stays(there, wanted, failed):
    there, wanted = ([FoldTrial({"x": kind}, kind + 1) for kind in kinds] for kinds in (there, wanted))
    failed = frozenset(number for number in failed if number < len(there))
    numbers, trials = place(wanted, there, failed)
    assert [trials[number] for number in numbers] == wanted
    assert len(set(numbers)) == len(numbers) and not failed & set(numbers)
    assert list(trials[: len(there)]) == there
    assert set(range(len(there), len(trials))) <= set(numbers), "nothing is added that is not wanted"
    for added in range(len(there), len(trials)):
        left = [n for n in range(len(there)) if n not in failed and n not in numbers and there[n] == trials[added]]
        assert not left, "what is there is used before it is trained anew"


@pytest.fixture(scope="module")
def place_of(tmp_path_factory):
    folder = tmp_path_factory.mktemp("folds")
    make_phantom(folder / "data", images=80, size=32, seed=1, lift=0, test_images=1, workers=1)
    return folder


class Folded:
    """A search on folds, and its folds."""

    def __init__(self, folder, out, text=TEXT):
        dataset = read_dataset(folder / "data")
        self.out, self.cache = out, folder / "cache"
        self.inputs = Inputs(dataset, pack(dataset.train_folder, dataset.ids, self.cache))
        prepare(out, parse_search(text, "toy.yaml"), text, self.inputs, self.cache, lambda line: None)
        self.search, self.provenance = read_workspace(out)
        self.split = read_split(out / "split.csv", dataset.ids)

    def fold(self, fold, wanted):
        parent = self.search, self.provenance
        return prepare_fold(
            self.out / str(fold), fold, wanted, parent=parent, split=self.split, inputs=self.inputs, cache=self.cache
        )


@pytest.fixture
def folded(place_of, tmp_path):
    return Folded(place_of, tmp_path / "out")


def play(ready, most=100, fails=()):
    """Run a fold's search with made-up objectives; return the epochs done."""
    agenda, done = Agenda(ready.search, Ledger.create(ready.out, "toy"), slots=1, spent_seconds=lambda: 0.0), 0
    while done < most and (leg := agenda.next()) is not None:
        if leg.number in fails:
            agenda.fail(leg.number, "the disk is on fire")
            continue
        over = False
        while not over and done < most:
            done += 1
            over = agenda.report(leg.number, EpochReport(agenda.trials[leg.number].epochs + 1, 0.5, {}))
    return done


def test_a_fold_is_made_of_the_searchs_own_rows(folded):
    trials = drawn(folded.search, 2)
    ready = folded.fold(2, trials)
    table = pd.read_csv(ready.out / "split.csv")
    parent = pd.read_csv(folded.out / "split.csv")
    assert (table.Fold == parent.Fold).all() and ((table.Split == "test") == (parent.Split == "test")).all()
    assert ((table.Split == "validation") == (parent.Fold == 2)).all() and (table.Split == "test").any()
    search, provenance = read_workspace(ready.out)
    assert trials_of(search) == trials
    assert (provenance.mean, provenance.std, provenance.fingerprint) == (
        folded.provenance.mean,
        folded.provenance.std,
        folded.provenance.fingerprint,
    )
    assert set(provenance.classes) <= set(folded.provenance.classes)
    positives = folded.inputs.dataset.labels[parent.Fold == 2].sum(axis=0)
    assert all(positives[label] for label in provenance.classes)
    assert (ready.job.epochs, ready.job.mean, ready.numbers) == (20, provenance.mean, (0, 1))


def test_it_goes_on_after_a_kill_at_any_moment_and_a_second_time_does_nothing(folded):
    trials = drawn(folded.search, 3)
    for most in (0, 1, 2, 0, 1, 100):
        ready = folded.fold(1, trials)
        assert ready.numbers == (0, 1, 2) and not ready.done
        play(ready, most)
    before = (ready.out / "study.journal").read_bytes(), (ready.out / "search.yaml").read_bytes()
    again = folded.fold(1, trials)
    assert again.done and play(again) == 0
    assert ((ready.out / "study.journal").read_bytes(), (ready.out / "search.yaml").read_bytes()) == before
    assert [facts.epochs for facts in again.facts()] == [1, 2, 3]


def test_other_members_are_added_and_what_is_trained_is_kept(folded):
    one, two, three = drawn(folded.search, 3)
    play(folded.fold(1, [one, two]))
    ready = folded.fold(1, [three, one])
    assert ready.numbers == (2, 0) and not ready.done
    assert play(ready) == three.epochs and ready.done
    assert folded.fold(1, [two]).done
    assert read_status(ready.out)["trials"][2]["parameters"] == three.parameters


def test_members_that_have_not_begun_are_left_when_they_are_not_wanted_any_more(folded):
    one, two, three = drawn(folded.search, 3)
    play(folded.fold(1, [one, two]), most=1)
    ready = folded.fold(1, [one, three])
    assert ready.numbers == (0, 1) and trials_of(ready.search) == (one, three)


def test_what_failed_is_tried_again_with_another_seed(folded):
    one, two = drawn(folded.search, 2)
    ready = folded.fold(1, [one, two])
    play(ready, fails=[0])
    assert ready.done and ready.facts()[0].end == "failed"
    again = folded.fold(1, [one, two])
    assert again.numbers == (2, 1) and not again.done
    play(again)
    assert again.done and folded.fold(1, [one, two]).numbers == (2, 1)


def test_a_kill_between_the_files_is_made_good(folded):
    trials = drawn(folded.search, 2)
    ready = folded.fold(1, trials)
    before = (ready.out / "provenance.json").read_bytes()
    (ready.out / "provenance.json").unlink()
    (ready.out / "split.csv").unlink()
    folded.fold(1, trials[:1])
    assert folded.fold(1, trials).numbers == (0, 1)
    assert (ready.out / "provenance.json").read_bytes() == before


def test_a_torn_journal_is_no_fault(folded):
    trials = drawn(folded.search, 2)
    ready = folded.fold(1, trials)
    play(ready, most=1)
    with (ready.out / "study.journal").open("ab") as file:
        file.write(b'{"op_code": 4, "wor')
    assert folded.fold(1, trials).numbers == (0, 1)


def test_something_else_in_its_place_is_refused(folded):
    trials = drawn(folded.search, 2)
    folded.fold(1, trials)
    folded.fold(2, trials)
    (folded.out / "2").rename(folded.out / "3")
    with pytest.raises(
        UserError, match=f"{re.escape(str(folded.out / '3'))} holds something else than this search without its fold 3"
    ):
        folded.fold(3, trials)


def test_a_driver_at_work_is_not_given_other_members(folded):
    one, two = drawn(folded.search, 2)
    ready = folded.fold(1, [one])
    held = lease.take(ready.out, "toy")
    try:
        assert folded.fold(1, [one]).numbers == (0,)
        with pytest.raises(UserError, match="another process trains other members"):
            folded.fold(1, [two])
    finally:
        held.release()
    assert trials_of(folded.fold(1, [two]).search) == (two,)


def test_specialists_keep_to_their_labels_and_need_them_in_each_fold(place_of, tmp_path):
    folded = Folded(place_of, tmp_path / "out", TEXT + "labels: [0, 25]\n")
    ready = folded.fold(1, drawn(folded.search, 1))
    assert ready.job.labels == (0, 25) and set(ready.job.classes) <= {0, 25}
    folded.inputs.dataset.labels[folded.split.fold == 2] = np.eye(28, dtype=bool)[3]
    with pytest.raises(UserError, match=r"fold 2 has no image with any of the search's labels \(Nucleoplasm, Cytosol\)"):
        folded.fold(2, drawn(folded.search, 1))


def test_a_search_may_be_judged_by_another_fold_from_the_start(place_of, tmp_path):
    folded = Folded(place_of, tmp_path / "out", TEXT.replace("folds: 4", "folds: 4, fold: 3"))
    usual = Folded(place_of, tmp_path / "usual")
    assert folded.split.judging == 3 and np.array_equal(folded.split.fold, usual.split.fold)
    assert folded.fold(0, drawn(folded.search, 1)).search.split.fold == 0
