"""What a search keeps on disk: all that it may still need, and no more."""

import random
from dataclasses import dataclass, field

import pytest

from hpa_search.ledger.ledger import Ledger
from hpa_search.search.agenda import Agenda
from hpa_search.search.leg import EpochReport
from hpa_search.search.shelf import MOST_CANDIDATES, Kept, Shelf
from hpa_search.search.trial_files import WorkTrialFiles
from hpa_search.space.settings import Budget
from hpa_search.storage.opened import WorkingCopy

OPTIMIZER, WEIGHTS = 200, 100
"""Megabytes."""


@dataclass
class Disk:
    """Files of trials as a worker leaves them: a checkpoint, and the weights of the best and of the last epoch."""

    checkpoints: set[int] = field(default_factory=set)
    weights: dict[int, set[int]] = field(default_factory=dict)
    most: int = 0

    def train(self, number, reports):
        best = min(reports, key=lambda epoch: (-reports[epoch], epoch))
        self.checkpoints.add(number)
        self.weights[number] = {best, max(reports)}

    def kept(self):
        return {number: Kept(self.size(number), number in self.checkpoints) for number in self.weights}

    def size(self, number):
        return 10**6 * (OPTIMIZER * (number in self.checkpoints) + WEIGHTS * len(self.weights.get(number, ())))

    def remove_checkpoint(self, number):
        self.checkpoints.discard(number)

    def remove_weights(self, number):
        self.remove_checkpoint(number)
        self.weights.pop(number, None)

    @property
    def gigabytes(self):
        return sum(self.size(number) for number in self.weights) / 1e9


def score(agenda, number, epoch):
    """Return a score that grows with the epochs."""
    return agenda.trials[number].parameters["learning_rate"] * epoch**0.5 + 0.01 * ((number * 7919 + epoch) % 13)


def play(agenda, disk, chooser, most_steps=10**6, after=lambda: None, score=score):
    """Train trials as slots do; return how many epochs had to be trained again."""
    legs, again = {}, 0
    while not agenda.has_nothing_left and most_steps:
        while (leg := agenda.next()) is not None:
            again += leg.reported if leg.number not in disk.checkpoints else 0
            legs[leg.number] = leg.reported
        if not legs:
            break
        number = chooser.choice(sorted(legs))
        legs[number] += 1
        reports = {**agenda.trials[number].reports, legs[number]: score(agenda, number, legs[number])}
        disk.train(number, reports)
        if agenda.report(number, EpochReport(legs[number], reports[legs[number]], {})):
            del legs[number]
        disk.most = max(disk.most, disk.gigabytes)
        after()
        most_steps -= 1
    for number in legs:
        agenda.release(number)
    return again


def open_agenda(search, out, disk, slots=3):
    return Agenda(search, Ledger.create(out, "toy"), slots=slots, spent_seconds=lambda: 0.0, shelf=Shelf(search, disk))


def candidates(agenda):
    """Return the epochs from which the final stage chooses, if nothing was removed."""
    entries = []
    for number, trial in agenda.trials.items():
        if trial.reports and trial.end != "failed":
            best = min(trial.reports, key=lambda epoch: (-trial.reports[epoch], epoch))
            entries += [(-trial.reports[epoch], number, epoch) for epoch in {best, max(trial.reports)}]
    return sorted(entries)[:MOST_CANDIDATES]


@pytest.mark.parametrize("budget", ["{trials: 70}", "{epochs: 300, reserve: 0.25}", "{hours: 100, trials: 90}"])
@pytest.mark.parametrize("kind", ["promotion", "stopping", "none"])
@pytest.mark.parametrize("seed", range(3))
def test_the_final_stage_finds_all_its_candidates_and_no_trial_trains_twice(make_search, tmp_path, budget, kind, seed):
    search = make_search(budget=budget, kind=kind).model_copy(update={"sampler": "random", "seed": seed})
    disk, chooser = Disk(), random.Random(seed)
    while True:
        agenda = open_agenda(search, tmp_path, disk)
        assert play(agenda, disk, chooser, chooser.randint(20, 200)) == 0
        if agenda.has_nothing_left:
            break
    agenda.close()
    wanted = candidates(agenda)
    assert all(epoch in disk.weights[number] for _, number, epoch in wanted)
    best = sorted((-max(trial.reports.values()), number) for number, trial in agenda.trials.items() if trial.reports)
    extra = set(disk.weights) - {number for _, number in best[:MOST_CANDIDATES]}
    # Those that may be members, twice five at each of two rungs, and by `stopping` survivors that the budget holds back, stay.
    assert len(extra) <= 20 and all(agenda.trials[number].set_aside for number in extra | disk.checkpoints)
    assert disk.checkpoints <= set(disk.weights)


def test_members_that_disappoint_have_others_behind_them(make_search, tmp_path):
    """Late trials begin far ahead and fall behind from epoch 3 on, so that those behind them are members in the end."""
    search = make_search(budget="{trials: 300}").model_copy(update={"sampler": "random"})
    qualities = random.Random(0).choices([0.01 * step for step in range(10)], k=300)

    def late_ones_fall(agenda, number, epoch):
        ahead = (5 if epoch < 3 else -5) if 270 <= number < 285 else 0
        return qualities[number] + 1e-6 * number + 10 * epoch**0.5 + ahead

    disk = Disk()
    agenda = open_agenda(search, tmp_path, disk, slots=1)
    assert play(agenda, disk, random.Random(0), score=late_ones_fall) == 0


def test_all_is_kept_if_that_is_asked_for(make_search, tmp_path):
    search = make_search(budget="{trials: 40}").model_copy(update={"sampler": "random", "keep": "all"})
    disk = Disk()
    agenda = open_agenda(search, tmp_path, disk)
    play(agenda, disk, random.Random(0))
    agenda.close()
    assert disk.checkpoints == set(disk.weights) == {number for number, trial in agenda.trials.items() if trial.reports}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("budget", ["{trials: 60}", "{hours: 100, trials: 60}"])
def test_a_limit_is_never_exceeded_by_more_than_one_trial(make_search, tmp_path, budget, seed):
    """Also by a new driver; and the best trials, of which the ensemble is made, are all there."""
    limit = 6.0
    search = make_search(budget=budget).model_copy(update={"sampler": "random", "seed": seed, "keep": limit})
    disk, chooser = Disk(), random.Random(seed)
    while True:
        agenda = open_agenda(search, tmp_path, disk)
        play(agenda, disk, chooser, chooser.randint(20, 100))
        if agenda.has_nothing_left:
            break
    agenda.close()
    assert limit * 0.7 < disk.most <= limit + (OPTIMIZER + 2 * WEIGHTS) / 1e3
    best = {number for _, number, _ in candidates(agenda)[: search.final.max_members]}
    assert best <= set(disk.weights)
    assert all(trial.number in disk.weights for trial in agenda.trials.values() if trial.epochs == search.rungs[-1])


def test_a_trial_that_lost_its_checkpoint_is_promoted_all_the_same(make_search, tmp_path):
    """A limit has taken its files, and the search was extended; the ledger has its epochs once."""
    search = make_search(budget="{trials: 30}").model_copy(update={"sampler": "random", "keep": 4.0})
    disk = Disk()
    agenda = open_agenda(search, tmp_path, disk)
    play(agenda, disk, random.Random(0))
    agenda.close()
    more = open_agenda(search.model_copy(update={"budget": Budget(trials=120)}), tmp_path, disk)
    restored = more.restore()
    lost = [number for number in restored if number not in disk.checkpoints]
    assert lost and more.lost_in_words().startswith(
        f"{len(lost)} of the {len(restored)} trials that wait have no checkpoint any more"
    )
    assert play(more, disk, random.Random(0)) > 0
    assert all(sorted(trial.reports) == list(range(1, trial.epochs + 1)) for trial in more.trials.values())


def test_a_trial_that_ends_early_keeps_its_files_until_its_worker_is_done(make_search, tmp_path):
    """The worker goes on until its next report; only then is its leg over."""
    disk = Disk()
    agenda = open_agenda(make_search(budget="{trials: 2}"), tmp_path, disk, slots=1)
    first = agenda.next()
    disk.train(first.number, {1: 0.5})
    agenda.fail(first.number, "out of memory")
    leg = agenda.next()
    disk.train(leg.number, {1: 0.4})
    agenda.report(leg.number, EpochReport(1, 0.4, {}))
    assert set(disk.weights) == {first.number, leg.number}
    while (leg := agenda.next()) is not None:
        for epoch in range(leg.reported + 1, leg.target + 1):
            agenda.report(leg.number, EpochReport(epoch, 0.4, {}))
    again = open_agenda(agenda.search, tmp_path, disk)
    again.close()
    assert first.number not in disk.weights and first.number not in disk.checkpoints


def test_files_that_cannot_be_removed_end_no_search(make_search, tmp_path, caplog):
    class Frozen(Disk):
        def remove_checkpoint(self, number):
            raise OSError("read-only")

    disk = Frozen()
    agenda = open_agenda(make_search(budget="{trials: 12}").model_copy(update={"sampler": "random"}), tmp_path, disk)
    play(agenda, disk, random.Random(0))
    agenda.close()
    assert caplog.text.count("cannot be removed: read-only") == 1


@pytest.fixture
def work(tmp_path):
    folder = tmp_path / "trials/0007"
    (folder / "weights").mkdir(parents=True)
    for name, size in {
        "checkpoint.pt": 30,
        "weights/epoch-001.safetensors": 10,
        "weights/epoch-003.safetensors": 10,
        "logits.npz": 5,
        "metrics.csv": 5,
        "weights/.epoch-004.safetensors.1.2": 9,
    }.items():
        (folder / name).write_bytes(b"x" * size)
    (tmp_path / "trials/0008").mkdir()
    (tmp_path / "trials/0008/error.txt").write_text("out of memory")
    return WorkingCopy.of(tmp_path)


def test_logits_metrics_and_what_is_being_written_stay(work):
    files, folder = WorkTrialFiles(work), work.folder / "trials/0007"
    assert files.kept() == {7: Kept(50, True)} and files.size(7) == 50 and files.size(8) == 0
    files.remove_checkpoint(7)
    assert files.kept() == {7: Kept(20, False)}
    files.remove_weights(7)
    files.remove_weights(9)
    assert files.kept() == {}
    assert sorted(path.name for path in folder.rglob("*") if path.is_file()) == [
        ".epoch-004.safetensors.1.2",
        "logits.npz",
        "metrics.csv",
    ]
