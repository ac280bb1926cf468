"""What searcher, ledger and logs cost at scale, against bare Tune on the same slots.

    python tests/benchmarks/scale.py [--slots 8] [--trials 1000] [--only rate,nothing,results,resume]

rate     1,000 trials of one second: trials per second, ours (TPE, journal, TensorBoard, status lines) against a Tune class
         trainable that sleeps, `reuse_actors=True`, no searcher, no logs. Both from their first trial's start to the last's end.
nothing  300 trials that do nothing, on 2 slots: seconds a trial. The target is 1.2 times bare Tune's.
results  8 trials of many epochs that do nothing: results per second, ours with all logging against Tune's without any. The
         target is what 64 slots bring whose epochs last a second.
resume   a study of 1,000 trials, three of them interrupted, of each kind: seconds until a new driver has taken its lease, told
         its watchers and knows what runs next, and the same with the start of its process, most of which are the imports of
         torch, timm and Ray. Slots come up as in any search, and are left out.

Exits with 1 if a target is missed (90 %, 1.2, 64 results per second, 10 s).
"""

import argparse
import io
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]
import optuna  # noqa: E402
import ray  # noqa: E402
from ray import tune  # noqa: E402
from ray.tune import PlacementGroupFactory  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402
from scale_trial import IdleJob, open_idler  # noqa: E402

from hpa_search.board.events import EventFiles  # noqa: E402
from hpa_search.board.runs import TensorBoard  # noqa: E402
from hpa_search.engine.driver import Site, run_search  # noqa: E402
from hpa_search.engine.worker import Trials  # noqa: E402
from hpa_search.ledger import lease  # noqa: E402
from hpa_search.ledger.database import open_database  # noqa: E402
from hpa_search.ledger.journal import JOURNAL, open_journal  # noqa: E402
from hpa_search.ledger.ledger import Ledger, TrialRecord  # noqa: E402
from hpa_search.ledger.study_place import choose_study, read_study_place  # noqa: E402
from hpa_search.search.agenda import Agenda  # noqa: E402
from hpa_search.search.leg import EpochReport, Leg  # noqa: E402
from hpa_search.search.view import View  # noqa: E402
from hpa_search.space.parsing import parse_search  # noqa: E402
from hpa_search.space.search import Search  # noqa: E402
from tests.servers.postgres import postgres  # noqa: E402

SPACE = """
name: scale
space:
  learning_rate: {{log_range: [1.0e-4, 1.0e-1]}}
  weight_decay: {{log_range: [1.0e-6, 1.0e-2]}}
  loss: {{choice: [bce, focal]}}
budget: {{trials: {trials}}}
scheduler: {{kind: none, max_epochs: {epochs}}}
resources: {{slots: {slots}, cpus: {cpus}, gpus: 0}}
final: {{members: 1}}
"""
EPOCHS = 2000
LEAST_RESULTS = 64
IDLE_TRIALS, MOST_IDLE = 300, 1.2


class Times:
    """Notes when the first trial started and how many epochs came when."""

    def __init__(self) -> None:
        self.first, self.last, self.results = 0.0, 0.0, 0

    def resumed(self, trials: list[TrialRecord], spent_seconds: Callable[[], float]) -> None: ...

    def extended(self, search: Search) -> None: ...

    def started(self, leg: Leg) -> None: ...

    def reported(self, number: int, report: EpochReport | None) -> None:
        """Count an epoch; the first is not counted, so that what starts the slots is not."""
        self.last = time.monotonic()
        self.first = self.first or self.last
        self.results += 1

    def ended(self, number: int, state: str, why: str) -> None: ...

    @property
    def per_second(self) -> float:
        """Epochs after the first per second."""
        return (self.results - 1) / (self.last - self.first)


def search_of(trials: int, epochs: int, slots: int) -> Search:
    return parse_search(SPACE.format(trials=trials, epochs=epochs, slots=slots, cpus=1.5 / slots), "scale")


def ours(trials: int, epochs: int, slots: int, seconds: float) -> float:
    """Return results per second of a search with all that a search has."""
    out, times = Path(tempfile.mkdtemp()), Times()
    search = search_of(trials, epochs, slots)
    view = View(search, Console(file=io.StringIO()))
    run_search(
        search,
        Site(out),
        Trials(open_idler, IdleJob(seconds)),
        watchers=(TensorBoard(EventFiles(out), search), view, times),
        say=lambda line: None,
    )
    assert times.results == trials * epochs
    return times.per_second


class Bare(tune.Trainable):
    """What our trials are, as a plain Tune trainable."""

    def setup(self, config: dict[str, Any]) -> None:
        """Nothing is needed."""
        self._config, self._epoch = config, 0

    def step(self) -> dict[str, Any]:
        """Sleep and report as many numbers."""
        time.sleep(self._config["seconds"])
        self._epoch += 1
        done = self._epoch >= self._config["epochs"]
        return {"objective": 0.5, **{f"metric_{index}": float(self._epoch) for index in range(10)}, "done": done}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next trial in the same process."""
        self.setup(new_config)
        return True

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing is kept."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing is kept."""


class CountResults(tune.Callback):
    """Counts results, as `Times` does."""

    def __init__(self, times: Times) -> None:
        self._times = times

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any) -> None:
        """Count one."""
        self._times.reported(0, None)

    def __getstate__(self) -> dict[str, Any]:
        return {"_times": None}


def bare(trials: int, epochs: int, slots: int, seconds: float) -> float:
    """Return results per second of Tune alone."""
    os.environ |= {"TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1", "TUNE_GLOBAL_CHECKPOINT_S": str(10**9), "RAY_AIR_NEW_OUTPUT": "0"}
    ray.init(address="local", log_to_driver=False, include_dashboard=True)
    times = Times()
    try:
        tune.Tuner(
            tune.with_resources(Bare, PlacementGroupFactory([{"CPU": 1.5 / slots}])),
            param_space={"seconds": seconds, "epochs": epochs, "x": tune.uniform(0, 1)},
            tune_config=tune.TuneConfig(num_samples=trials, reuse_actors=True, max_concurrent_trials=slots),
            run_config=tune.RunConfig(storage_path=tempfile.mkdtemp(), verbose=0, callbacks=[CountResults(times)]),
        ).fit()
    finally:
        ray.shutdown()
    assert times.results == trials * epochs, times.results
    return times.per_second


def filled_journal(out: Path, trials: int, slots: int) -> Search:
    """Write a study of so many trials of 9 epochs, three of them unfinished; return the search, which would have twice as many."""
    search = search_of(2 * trials, 9, slots)
    # What the trials are is of no account here, and TPE would take minutes over it.
    agenda = Agenda(
        search.model_copy(update={"sampler": "random"}), Ledger.create(out, "scale"), slots=4, spent_seconds=lambda: 0.0
    )
    legs: list[Leg] = []
    while len(agenda.trials) < trials:
        while (leg := agenda.next()) is not None:
            legs.append(leg)
        leg = legs.pop(0)
        for epoch in range(1, 10):
            if agenda.report(leg.number, EpochReport(epoch, leg.parameters["learning_rate"] * epoch**0.5, {})):
                break
    return search


def copied_study(journal: Path, out: Path, url: str) -> None:
    """Give ``out`` the study of ``journal`` in the database at ``url``; to report each epoch there would take minutes."""
    choose_study(out, url, out.name)
    Ledger.create(out, "scale")
    place = read_study_place(out)
    assert place is not None
    copied = optuna.load_study(study_name="scale", storage=open_journal(journal / JOURNAL)).get_trials()
    optuna.load_study(study_name=place.name, storage=open_database(place.url)).add_trials(copied)


def resume_seconds(search: Search, out: Path) -> float:
    """Return how long it takes from nothing to the interrupted trials and a new one, watchers told of all, without Ray."""
    began = time.monotonic()
    held = lease.take(out, "scale", say=lambda line: None)
    watchers = (TensorBoard(EventFiles(out), search), View(search, Console(file=io.StringIO())))
    agenda = Agenda(search, held.ledger, slots=4, spent_seconds=lambda: held.spent_seconds, watchers=watchers)
    known = len(agenda.trials)
    legs = [agenda.next() for _ in range(4)]
    seconds = time.monotonic() - began
    assert [leg is not None and leg.number < known for leg in legs] == [True, True, True, False]
    held.release()
    return seconds


def run_rate(slots: int, trials: int) -> tuple[list[tuple[str, str, str, str]], list[str]]:
    us, peer = ours(trials, 1, slots, 1.0), bare(trials, 1, slots, 1.0)
    missed = [] if us >= 0.9 * peer else [f"rate: {us / peer:.0%} of bare Tune's"]
    return [(f"{trials} trials of 1 s on {slots} slots, trials/s", f"{us:.2f}", f"{peer:.2f}", f"{us / peer:.1%}")], missed


def run_nothing(slots: int, trials: int) -> tuple[list[tuple[str, str, str, str]], list[str]]:
    us, peer = 1 / ours(IDLE_TRIALS, 1, 2, 0.0), 1 / bare(IDLE_TRIALS, 1, 2, 0.0)
    missed = [] if us <= MOST_IDLE * peer else [f"nothing: {us / peer:.2f} times bare Tune's seconds a trial"]
    return [
        (
            f"{IDLE_TRIALS} trials that do nothing on 2 slots, ms a trial",
            f"{1000 * us:.0f}",
            f"{1000 * peer:.0f}",
            f"{us / peer:.2f}",
        )
    ], missed


def run_results(slots: int, trials: int) -> tuple[list[tuple[str, str, str, str]], list[str]]:
    us, peer = ours(slots, EPOCHS, slots, 0.0), bare(slots, EPOCHS, slots, 0.0)
    missed = [] if us >= LEAST_RESULTS else [f"results: {us:.0f} per second"]
    return [(f"{slots} trials of {EPOCHS} idle epochs, results/s", f"{us:.1f}", f"{peer:.1f}", f"{us / peer:.1%}")], missed


def run_resume(slots: int, trials: int) -> tuple[list[tuple[str, str, str, str]], list[str]]:
    rows, missed = [], []
    with postgres() as server:
        os.environ["PGPASSWORD"] = server.password
        outs = {kind: Path(tempfile.mkdtemp(prefix=f"{kind}-")) for kind in ("journal", "sqlite", "postgresql")}
        search = filled_journal(outs["journal"], trials, slots)
        copied_study(outs["journal"], outs["sqlite"], f"sqlite:///{outs['sqlite']}/study.db")
        copied_study(outs["journal"], outs["postgresql"], server.url)
        for kind, out in outs.items():
            # In a process of its own: what was written is not in its memory.
            paths = [str(ROOT), str(Path(__file__).parent)]
            program = f"import sys; sys.path[:0] = {paths!r}; import scale; from pathlib import Path; "
            program += f"print(scale.resume_seconds(scale.search_of({search.budget.trials}, 9, {slots}), Path({str(out)!r})))"
            began = time.monotonic()
            seconds = float(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout)
            whole = time.monotonic() - began
            rows.append((f"resume of {trials} trials, {kind}, s", f"{seconds:.2f}", "", f"{whole:.1f} s with all imports"))
            missed += [f"resume from {kind} takes {seconds:.1f} s"] if seconds > 10 else []
    return rows, missed


SECTIONS: dict[str, Callable[[int, int], tuple[list[tuple[str, str, str, str]], list[str]]]] = {
    "rate": run_rate,
    "nothing": run_nothing,
    "results": run_results,
    "resume": run_resume,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--only", default=",".join(SECTIONS))
    arguments = parser.parse_args()
    missed = []
    for name in arguments.only.split(","):
        rows, misses = SECTIONS[name](arguments.slots, arguments.trials)
        missed += misses
        table = Table("what", "ours", "bare Tune", "")
        for row in rows:
            table.add_row(*row)
        Console(width=140).print(table)
    for line in missed:
        print(f"MISSED: {line}")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    # Ray's workers import this file's neighbour by its name.
    os.environ["PYTHONPATH"] = f"{Path(__file__).parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    main()
