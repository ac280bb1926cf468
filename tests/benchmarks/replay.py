"""The search in virtual time, against its peers: regret at equal epochs, epochs to equal regret, use of the budget.

    python tests/benchmarks/replay.py [--slots 4,16,64] [--epochs 300] [--seeds 8] [--first-seed 0] [--families smooth,real]
                                      [--searchers "hpa_search;Syne Tune ASHA"] [--jobs 2] [--before DIR] [--out runs.jsonl]

The real agenda and ledger decide. An epoch is only a step of a virtual clock; each trial has a length of its own for it. Regret
is 1 minus the true quality of the trial that one would pick: the one whose last report is the best. A search has --epochs epochs,
or 15 a slot if that is more. "hpa_search, 1 member" trains one trial to the end for the ensemble, not three; peers train none. "hpa_search, TPE" has `sampler: tpe`.
--before is another version's checkout, whose search is run beside this one's. --out keeps each run as a line of JSON. The family
`real` reads learning_curves.csv in the folder HPA_TEST_DATA.
"""

import argparse
import heapq
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from itertools import chain, product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path[:0] = [*([] if os.environ.get("PYTHONPATH") else [str(ROOT)]), str(Path(__file__).parent)]
from replay_problems import FAMILIES, Problem  # noqa: E402
from replay_searchers import ONE_MEMBER, OUR_TPE, OURS, RANDOM, SEARCHERS, Searcher, Work  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

EPOCHS_PER_SLOT = 15
BEFORE = "hpa_search before"
NO_PEERS = (OURS, ONE_MEMBER, OUR_TPE, BEFORE)
Cell = tuple[str, int]
"""A family and a number of slots."""


class Pick:
    """The trial that one would pick of those seen so far."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._last: dict[int, float] = {}
        self._quality: dict[int, float] = {}

    def see(self, work: Work, score: float) -> None:
        """Take the score of a trial's next epoch."""
        self._last[work.number] = score
        if work.number not in self._quality:
            self._quality[work.number] = self._problem.quality(work.parameters)

    @property
    def regret(self) -> float:
        """1 minus the true quality of the trial."""
        return 1 - self._quality[max(self._last, key=self._last.__getitem__)]


def play(problem: Problem, searcher: Searcher, slots: int, epochs: int) -> list[float]:
    """Return the regret after each epoch, until so many are done or the searcher has ended."""
    running: list[tuple[float, int, int, Work]] = []
    pick, regrets, now, begun = Pick(problem), list[float](), 0.0, 0
    while True:
        while len(running) < slots and begun < epochs and (work := searcher.next()) is not None:
            heapq.heappush(running, (now + problem.seconds(work.parameters), work.number, work.reported + 1, work))
            begun += 1
        if not running:
            return regrets
        now, number, epoch, work = heapq.heappop(running)
        score = problem.score(work.parameters, epoch)
        pick.see(work, score)
        regrets.append(pick.regret)
        if not searcher.report(number, epoch, score) and begun < epochs:
            heapq.heappush(running, (now + problem.seconds(work.parameters), number, epoch + 1, work))
            begun += 1


def run(task: tuple[str, str, int, int, int]) -> dict[str, Any]:
    """Run one searcher on one problem."""
    searcher, family, slots, epochs, seed = task
    problem, began = FAMILIES[family](seed), time.perf_counter()
    regrets = play(problem, SEARCHERS[searcher](problem, slots, epochs), slots, epochs)
    seconds = time.perf_counter() - began
    found = {"searcher": searcher, "family": family, "slots": slots, "epochs": epochs, "seed": seed}
    return {**found, "seconds": seconds, "regrets": regrets}


def run_all(tasks: Sequence[tuple[str, str, int, int, int]], jobs: int) -> Iterable[dict[str, Any]]:
    """Run the tasks in processes of their own."""
    with ProcessPoolExecutor(jobs, mp_context=get_context("forkserver")) as pool:
        for done, found in enumerate(pool.map(run, tasks), start=1):
            if sys.stderr.isatty():
                print(f"\r{done} of {len(tasks)} runs", end="", file=sys.stderr, flush=True)
            yield found


def run_before(root: Path, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Run the search of the checkout ``root`` on the same problems."""
    command = [sys.executable, __file__, "--searchers", OURS, "--jobs", str(arguments.jobs), "--out", "-"]
    for name in ("slots", "epochs", "seeds", "first_seed", "families"):
        command += [f"--{name.replace('_', '-')}", str(getattr(arguments, name))]
    printed = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(root)}, check=True, stdout=subprocess.PIPE).stdout
    return [{**json.loads(line), "searcher": BEFORE} for line in printed.splitlines()]


def final(found: dict[str, Any]) -> float:
    return float(found["regrets"][-1])


def by_cell(runs: Iterable[dict[str, Any]], searcher: str) -> dict[Cell, dict[int, dict[str, Any]]]:
    """Return a searcher's runs by cell and seed."""
    cells: dict[Cell, dict[int, dict[str, Any]]] = defaultdict(dict)
    for found in runs:
        if found["searcher"] == searcher:
            cells[found["family"], found["slots"]][found["seed"]] = found
    return cells


def differences(runs: list[dict[str, Any]], peer: str) -> dict[Cell, float]:
    """Return for each cell by how many standard errors our regret is below the peer's, on the same problems."""
    ours, theirs, found = by_cell(runs, OURS), by_cell(runs, peer), {}
    for cell, of_seed in theirs.items():
        gains = np.array([final(of_seed[seed]) - final(ours[cell][seed]) for seed in of_seed])
        found[cell] = float(gains.mean() / max(gains.std(ddof=1) / len(gains) ** 0.5, 1e-9))
    return found


def epochs_to(runs: dict[Cell, dict[int, dict[str, Any]]], cell: Cell, regret: float) -> int | None:
    """Return after how many epochs the mean regret of a cell's runs stays at ``regret`` or below, None if it never does."""
    length = max(len(found["regrets"]) for found in runs[cell].values())
    curves = [np.pad(found["regrets"], (0, length - len(found["regrets"])), mode="edge") for found in runs[cell].values()]
    above = np.flatnonzero(np.mean(curves, axis=0) > regret + 1e-12)
    last = int(above[-1]) + 1 if len(above) else 0
    return last + 1 if last < length else None


def ratio(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> tuple[float, float]:
    """Return our mean regret over the peer's on the problems of both, and its standard error by the delta method."""
    pairs, errors = by_problem(ours), []
    both = [(found["family"], final(pairs[problem]), final(found)) for problem, found in by_problem(theirs).items()]
    quotient = float(np.mean([a for _, a, _ in both]) / np.mean([b for _, _, b in both]))
    for family in {family for family, _, _ in both}:  # families are the same in each draw of seeds
        residuals = np.array([a - quotient * b for of, a, b in both if of == family])
        errors.append(residuals.var(ddof=1) * len(residuals))
    return quotient, float(np.sqrt(np.sum(errors)) / np.sum([b for _, _, b in both]))


def by_problem(runs: list[dict[str, Any]]) -> dict[tuple[str, int], dict[str, Any]]:
    """Return runs by family and seed."""
    return {(found["family"], found["seed"]): found for found in runs}


def against_the_best(runs: list[dict[str, Any]], names: list[str]) -> Table:
    """Return a table of our mean regret over the best peer's, for each number of slots."""
    title = "mean regret over the best peer's (standard error)"
    table = Table("slots", "", "mean regret", "best peer", "over its", "best of other software", "over its", title=title)
    peers = [name for name in names if name not in NO_PEERS]
    for slots in sorted({found["slots"] for found in runs}):
        of: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for found in runs:
            if found["slots"] == slots:
                of[found["searcher"]].append(found)
        means = {name: float(np.mean([final(found) for found in of[name]])) for name in names}
        bests = [min(among, key=means.__getitem__) for among in (peers, [name for name in peers if name != RANDOM]) if among]
        for name in (OURS, ONE_MEMBER, OUR_TPE):
            if name in names:
                row = []
                for best in bests:
                    row += [f"{best} {means[best]:.3f}", "{:.3f} ({:.3f})".format(*ratio(of[name], of[best]))]
                table.add_row(str(slots), name, f"{means[name]:.3f}", *row)
    return table


def show(runs: list[dict[str, Any]], console: Console) -> None:
    """Print the regrets, the comparison with each peer, and the use of the budget."""
    names = list(dict.fromkeys(found["searcher"] for found in runs))
    cells = sorted(
        {(found["family"], found["slots"]) for found in runs}, key=lambda cell: (cell[1], list(FAMILIES).index(cell[0]))
    )
    seeds = sorted({found["seed"] for found in runs})
    title = f"mean regret (standard error), seeds {seeds[0]} to {seeds[-1]}"
    regrets = Table("family", "slots", *names, title=title)
    for cell in cells:
        row = []
        for name in names:
            values = [final(found) for found in by_cell(runs, name)[cell].values()]
            row.append(f"{np.mean(values):.3f} ({np.std(values, ddof=1) / len(values) ** 0.5:.3f})")
        regrets.add_row(cell[0], str(cell[1]), *row)
    means = {name: np.mean([final(found) for found in runs if found["searcher"] == name]) for name in names}
    regrets.add_row("mean", "", *(f"{means[name]:.4f}" for name in names))
    used = {name: np.mean([len(f["regrets"]) / f["epochs"] for f in runs if f["searcher"] == name]) for name in names}
    regrets.add_row("of the budget", "", *(f"{used[name]:.1%}" for name in names))
    taken = {
        name: np.mean([found["seconds"] / len(found["regrets"]) for found in runs if found["searcher"] == name]) for name in names
    }
    regrets.add_row("ms an epoch of the simulation", "", *(f"{1000 * taken[name]:.1f}" for name in names))
    console.print(regrets)
    if OURS not in names or len(names) < 2:
        return
    ours = by_cell(runs, OURS)
    peers = Table("peer", "ahead by 2 s.e.", "behind by 1 s.e.", "our regret / its", "its epochs / ours to its final regret")
    for name in names:
        if name in (OURS, ONE_MEMBER, OUR_TPE):
            continue
        gains, theirs = differences(runs, name), by_cell(runs, name)
        ratios, missed = [], 0
        for cell in cells:
            goal = float(np.mean([final(found) for found in theirs[cell].values()]))
            reached = epochs_to(ours, cell, goal)
            missed += reached is None
            all_epochs = next(iter(ours[cell].values()))["epochs"]
            ratios.append((epochs_to(theirs, cell, goal) or 1) / (reached or all_epochs))
        peers.add_row(
            name,
            f"{sum(gain > 2 for gain in gains.values())} of {len(gains)}",
            ", ".join(f"{family} {slots}" for (family, slots), gain in gains.items() if gain < -1) or "none",
            f"{means[OURS] / means[name]:.2f}",
            f"{np.exp(np.mean(np.log(ratios))):.2f}" + (f" at most: {missed} not reached" if missed else ""),
        )
    console.print(peers)
    console.print(against_the_best(runs, names))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slots", default="4,16,64")
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--families", default=",".join(FAMILIES))
    parser.add_argument("--searchers", default=";".join(SEARCHERS), help="separated by ;")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--before", type=Path)
    parser.add_argument("--out", help="a file, or - for the output")
    arguments = parser.parse_args()
    slots = [int(number) for number in arguments.slots.split(",")]
    searchers = arguments.searchers.split(";")
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    tasks = [
        (searcher, family, number, max(arguments.epochs, EPOCHS_PER_SLOT * number), seed)
        for searcher, family, number, seed in product(searchers, arguments.families.split(","), slots, seeds)
    ]
    for family in sorted({task[1] for task in tasks}):
        FAMILIES[family](0)  # a file that is missing is told before hours of runs
    runs = []
    with ExitStack() as stack:
        file = sys.stdout if arguments.out == "-" else stack.enter_context(Path(arguments.out or os.devnull).open("w"))
        for found in chain(run_all(tasks, arguments.jobs), run_before(arguments.before, arguments) if arguments.before else ()):
            print(json.dumps(found), file=file, flush=True)
            runs.append(found)
    if arguments.out == "-":
        return
    show(runs, Console(width=200))


if __name__ == "__main__":
    main()
