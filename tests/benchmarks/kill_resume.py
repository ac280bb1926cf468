"""SIGKILL of the driver at random moments, with one Ray kept up: what is lost, done twice, or decided otherwise.

    python tests/benchmarks/kill_resume.py [--journal 30] [--sqlite 10] [--postgresql 10] [--seed 1] [--seconds 1] [--within 12]

Searches of sleeping trials (promotion, rungs 1, 3, 9) run one after the other on each kind of study; drivers are killed at
random moments, and started again, until so many kills are done and the last search has ended. A quarter of the kills fall into
a driver's first 20 s, the others into its training: up to `--within` seconds after its first epoch has begun. Then, for each
search: every trial is there once and has ended, no trial has a hole in its epochs, what was reported before a kill is there
unchanged, trials and epochs are within the budget, and every trial that went beyond a rung was among the best 1/eta of a
prefix of the reports before its promotion, or is a member that was trained to the end. At most 1/eta of each rung's trials
and the members went on. Every other search has a limit in `keep:`, which its weights and checkpoints exceed at the end by one trial's
at most; in all the best trials have the weights of their best epoch.
A kill takes some 30 to 60 s on 2 cores, most of them for the driver's start. Exits with 1 if anything is amiss.
"""

import argparse
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
from optuna.storages.journal._storage import JournalOperation  # noqa: E402

from hpa_search.errors import UserError  # noqa: E402
from hpa_search.ledger.journal import JOURNAL  # noqa: E402
from hpa_search.ledger.ledger import Ledger, TrialRecord  # noqa: E402
from hpa_search.ledger.status import read_status  # noqa: E402
from hpa_search.search.trial_files import WorkTrialFiles  # noqa: E402
from hpa_search.storage.opened import WorkingCopy  # noqa: E402
from hpa_search.training.checkpoint import weights_path  # noqa: E402
from hpa_search.training.job import trial_name  # noqa: E402
from tests.servers.head import ENVIRONMENT, Head, ray_head  # noqa: E402
from tests.servers.postgres import postgres  # noqa: E402

SCRIPT = ROOT / "tests/end_to_end/sleeping_search.py"
TRIALS, EPOCHS, LEVELS, ETA, MEMBERS = 24, 90, (1, 3), 3, 3
RESERVE = 0.25
LIMIT_BYTES = 3_000_000
BUDGET = f"{{trials: {TRIALS}, epochs: {EPOCHS}, reserve: {RESERVE}}}"
REPORTS_IN_ORDER = """
    SELECT t.number, v.step, v.intermediate_value FROM trial_intermediate_values v
    JOIN trials t ON t.trial_id = v.trial_id JOIN studies s ON s.study_id = t.study_id
    WHERE s.study_name = '{name}' ORDER BY v.trial_intermediate_value_id
"""
Report = tuple[int, int, float]


@dataclass
class Tally:
    """What was found in the searches on one kind of study."""

    kills: int = 0
    in_training: int = 0
    searches: int = 0
    trials: int = 0
    promotions: int = 0
    finishers: int = 0
    begun_again: int = 0
    faults: list[str] = field(default_factory=list)


def study_url(kind: str, folder: Path, database: str) -> str | None:
    return {"journal": None, "sqlite": f"sqlite:///{folder}/study.db", "postgresql": database}[kind]


@contextmanager
def driver(out: Path, settings: dict[str, Any], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    paths = {"PYTHONPATH": f"{SCRIPT.parent}{os.pathsep}{ROOT}", "PGPASSWORD": os.environ["PGPASSWORD"]}
    environment = {**ENVIRONMENT, **paths, "RAY_AUTH_MODE": "token"}
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, str(SCRIPT), str(out), json.dumps(settings)], env=environment, stdout=output, stderr=output
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait()


def facts_of(out: Path) -> list[TrialRecord]:
    try:
        return Ledger.open(out).trials()
    except UserError:  # killed before it had begun one
        return []


def begun(out: Path) -> int:
    """Return how many epochs have been begun."""
    return sum(len(path.read_text().split()) for path in out.glob("trials/*/begun"))


@dataclass
class Killer:
    """Draws the moments at which drivers are killed."""

    rng: random.Random
    within: float

    def wait(self, process: subprocess.Popen[bytes], out: Path) -> tuple[int | None, int]:
        """Return at the moment of the kill with None, or at the driver's own end with its exit code; and the epochs begun."""
        began, first = time.monotonic(), begun(out)
        if self.rng.random() < 0.25:
            moment = self.rng.uniform(0.5, 20)
        else:
            while begun(out) == first and process.poll() is None and time.monotonic() - began < 600:
                time.sleep(0.1)
            moment = time.monotonic() - began + self.rng.uniform(0, self.within)
        try:
            code = process.wait(max(began + moment - time.monotonic(), 0))
        except subprocess.TimeoutExpired:
            code = None
        return code, begun(out) - first


def search_to_the_end(kind: str, kills: int, killer: Killer, settings: dict[str, Any], folder: Path, tally: Tally) -> None:
    """Run one search, killing its drivers while kills are left, and check its accounts."""
    out, before = folder / "out", dict[int, dict[int, float]]()
    while True:
        with driver(out, settings, folder / "log") as process:
            is_last = tally.kills >= kills
            try:
                code, trained = (process.wait(600), 0) if is_last else killer.wait(process, out)
            except subprocess.TimeoutExpired:
                code, trained = None, 0
        facts = facts_of(out)
        for number, reports in before.items():
            if len(facts) <= number or not reports.items() <= facts[number].reports.items():
                tally.faults.append(f"{kind}: reports of trial {number} were lost in kill {tally.kills}")
        before = {trial.number: trial.reports for trial in facts}
        if code is not None:
            if code != 0:
                tally.faults.append(f"{kind}: a driver ended with {code}: {(folder / 'log').read_text()[-500:]}")
            break
        if is_last:
            tally.faults.append(f"{kind}: a search did not end")
            break
        tally.kills += 1
        tally.in_training += trained > 0
        print(
            f"{kind}: kill {tally.kills} {f'after {trained} begun epochs' if trained else 'in the start'}: {len(facts)} trials, {sum(f.epochs for f in facts)} epochs",
            flush=True,
        )
    tally.searches += 1
    check(kind, out, facts, tally, limited=settings["keep"] != "needed")


def check(kind: str, out: Path, facts: list[TrialRecord], tally: Tally, *, limited: bool) -> None:
    """Add to the ``tally`` what is amiss with a search that has ended."""

    def amiss(what: str) -> None:
        tally.faults.append(f"{kind}: {what}")

    if read_status(out)["state"] != "finished":
        amiss(f"it is {read_status(out)['state']}")
    spent = sum(trial.epochs for trial in facts)
    if [trial.number for trial in facts] != list(range(len(facts))):
        amiss(f"trials {[trial.number for trial in facts]}")
    if not (len(facts) == TRIALS or (len(facts) < TRIALS and spent == EPOCHS)):
        amiss(f"{len(facts)} trials and {spent} epochs; one of the two budgets is to be used up")
    if len({trial.parameters["learning_rate"] for trial in facts}) != len(facts):
        amiss("two trials are the same")
    if spent > EPOCHS:
        amiss(f"{spent} epochs, the budget is {EPOCHS}")
    for trial in facts:
        if trial.end is None or trial.end == "failed":
            amiss(f"trial {trial.number} ended {trial.end}: {trial.ended}")
        if sorted(trial.reports) != list(range(1, trial.epochs + 1)):
            amiss(f"trial {trial.number} has epochs {sorted(trial.reports)}")
        begun = (out / "trials" / f"{trial.number:04d}" / "begun").read_text().split()
        if not limited:  # a trial whose checkpoint went begins again without any kill
            tally.begun_again += len(begun) - len(set(begun))
    tally.trials += len(facts)
    check_files(amiss, out, facts, limited=limited)
    check_promotions(amiss, in_order(out), facts, tally)


def check_files(amiss: Any, out: Path, facts: list[TrialRecord], *, limited: bool) -> None:
    kept = WorkTrialFiles(WorkingCopy.of(out)).kept()
    sizes = [files.bytes for files in kept.values()]
    if limited and sum(sizes) > LIMIT_BYTES + max(sizes):
        amiss(f"{sum(sizes)} bytes are kept, the limit is {LIMIT_BYTES}")
    if open_ones := [number for number, files in kept.items() if files.checkpoint and not facts[number].set_aside]:
        amiss(f"trials {open_ones} have ended and have a checkpoint")
    for trial in sorted(facts, key=lambda trial: -max(trial.reports.values()))[:MEMBERS]:
        best = max(trial.reports, key=trial.reports.__getitem__)
        if not weights_path(out / trial_name(trial.number), best).is_file():
            amiss(f"trial {trial.number}, one of the best, has no weights of epoch {best}")


def check_promotions(amiss: Any, reports: list[Report], facts: list[TrialRecord], tally: Tally) -> None:
    if len({(number, epoch) for number, epoch, _ in reports}) != len(reports):
        amiss("an epoch was reported twice")
    finishers = set()
    for level in LEVELS:
        for trial in (trial for trial in facts if trial.epochs > level):
            if deserved(trial.number, level, reports):
                tally.promotions += 1
            else:
                finishers.add(trial.number)
        there, beyond = (sum(trial.epochs >= least for trial in facts) for least in (level, level + 1))
        if beyond > there // ETA + MEMBERS:
            amiss(f"{beyond} of the {there} trials at epoch {level} went on")
    tally.finishers += len(finishers)
    best = sorted(facts, key=lambda trial: -trial.parameters["learning_rate"])[: 2 * MEMBERS]
    if not finishers <= {trial.number for trial in best} or len(finishers) > MEMBERS:
        amiss(f"trials {sorted(finishers)} were promoted and did not deserve it")


def deserved(trial: int, level: int, reports: list[Report]) -> bool:
    """Return whether ``trial`` was among the best 1/eta at the rung, at some prefix of the reports before its promotion."""
    scores: dict[int, float] = {}
    for number, epoch, objective in reports:
        if number == trial and epoch > level:
            return False
        if epoch == level:
            scores[number] = objective
            if trial in sorted(scores, key=lambda n: (-scores[n], n))[: len(scores) // ETA]:
                return True
    return False


def in_order(out: Path) -> list[Report]:
    """Return all reports in the order in which the study got them."""
    if (out / JOURNAL).is_file():
        lines = [json.loads(line) for line in (out / JOURNAL).read_text().splitlines()]
        wanted = JournalOperation.SET_TRIAL_INTERMEDIATE_VALUE
        return [(line["trial_id"], line["step"], line["intermediate_value"]) for line in lines if line["op_code"] == wanted]
    place = json.loads((out / "study.json").read_text())
    query = REPORTS_IN_ORDER.format(name=place["name"])
    if place["url"].startswith("sqlite"):
        with sqlite3.connect(place["url"].removeprefix("sqlite:///")) as connection:
            return connection.execute(query).fetchall()
    with psycopg.connect(place["url"]) as connection:
        return connection.execute(query).fetchall()


def orphans(head: Head) -> list[str]:
    """Return the actors and placement groups that are still there 20 s after the last driver's end, by Ray's State API."""
    deadline = time.monotonic() + 20
    while (left := head.living()) and time.monotonic() < deadline:
        time.sleep(1)
    return left


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = {"journal": 30, "sqlite": 10, "postgresql": 10}
    for kind, kills in kinds.items():
        parser.add_argument(f"--{kind}", type=int, default=kills)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1.0, help="How long an epoch takes.")
    parser.add_argument("--within", type=float, default=12.0, help="Seconds from a driver's first epoch to the latest kill.")
    arguments = parser.parse_args()
    faults, began = [], time.monotonic()
    killer = Killer(random.Random(arguments.seed), arguments.within)
    folder = Path(tempfile.mkdtemp(prefix="kill-resume-"))
    with postgres() as database, ray_head(folder / "ray.log") as head:
        os.environ["PGPASSWORD"] = database.password
        for kind in kinds:
            wanted, tally = getattr(arguments, kind), Tally()
            while tally.kills < wanted:
                place = folder / f"{kind}-{tally.searches}"
                place.mkdir()
                study = study_url(kind, place, database.url)
                settings = {
                    "budget": BUDGET,
                    "seconds": arguments.seconds,
                    "slots": 2,
                    "seed": tally.searches,
                    "keep": LIMIT_BYTES / 1e9 if tally.searches % 2 else "needed",
                    "ray": head.address,
                    **({"study": study} if study else {}),
                }
                search_to_the_end(kind, wanted, killer, settings, place, tally)
            if left := orphans(head):
                tally.faults.append(f"{kind}: left behind: {left}")
            faults += tally.faults
            print(
                f"{kind}: {tally.kills} kills, {tally.in_training} of them in training, in {tally.searches} searches of up to "
                f"{TRIALS} trials: {tally.trials} trials accounted for, "
                f"{tally.promotions} promotions and {tally.finishers} finishers checked, {tally.begun_again} epochs begun again, "
                f"{len(tally.faults)} faults",
                flush=True,
            )
    for fault in faults:
        print(f"FAULT {fault}")
    print(f"{time.monotonic() - began:.0f} s; files in {folder}")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
