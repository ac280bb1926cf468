"""From the last step of one trial to the first step of the next: warm slots against Ray's documented pattern.

usage: trial_overhead.py            (about 12 minutes on 2 cores; exits 1 when a target is missed)

1. One slot on both sides, and the same trial: build a ResNet-18, take a few steps. The hand-over is the time from the end
   of the last step of one trial (or leg of a trial, promotions included) to the beginning of the first step of the next.
   The peer is a Tune function that calls TorchTrainer.fit(), as Ray's documentation has it, one trial at a time.
2. 40 trials with promotions on 2 and on 4 slots, sleeping 5 s an epoch: worker groups started, and the share of the time
   from the first epoch to the last in which the slots sleep.
"""

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))  # Ray's workers import this file's neighbour by its name
from overhead_trial import BenchmarkJob, open_benchmark_trial, train_steps

from hpa_search.engine.driver import Site, run_search
from hpa_search.engine.worker import Trials
from hpa_search.ledger.ledger import Ledger
from hpa_search.space.parsing import parse_search

SPACE = """
name: overhead
space: {{learning_rate: {{log_range: [1.0e-4, 1.0e-1]}}}}
budget: {{trials: {trials}}}
scheduler: {{kind: promotion, min_epochs: 1, max_epochs: 3, eta: 3}}
resources: {{slots: {slots}, cpus: 0.25, gpus: 0}}
"""


def warm(trials: int, slots: int, seconds: float) -> tuple[list[dict[str, Any]], int, int]:
    """Run a search; return all its epochs' rows, the number of promotions, and the worker groups that were started."""
    out = Path(tempfile.mkdtemp())
    run_search(
        parse_search(SPACE.format(trials=trials, slots=slots), "overhead"),
        Site(out),
        Trials(open_benchmark_trial, BenchmarkJob(out, seconds)),
        say=lambda line: None,
    )
    rows = [json.loads(line) for file in out.glob("rows-*.jsonl") for line in file.read_text().splitlines()]
    ledger = Ledger.open(out)
    promotions = sum(facts.target > 1 for facts in ledger.trials())
    return sorted(rows, key=lambda row: row["first"]), promotions, ledger.noted()["worker_groups_started"]


def hand_overs(rows: list[dict[str, Any]]) -> np.ndarray:
    """Return the seconds between neighbours of one worker that belong to different legs."""
    gaps = []
    for worker in {row["pid"] for row in rows}:
        own = [row for row in rows if row["pid"] == worker]
        gaps += [
            after["first"] - before["last"] for before, after in zip(own, own[1:], strict=False) if after["leg"] != before["leg"]
        ]
    return np.array(gaps)


def documented(trials: int) -> np.ndarray:
    """Return the hand-overs of Ray's documented pattern, one trial at a time."""
    import ray
    from ray import train, tune
    from ray.train.torch import TorchTrainer
    from ray.tune.integration.ray_train import TuneReportCallback

    storage = tempfile.mkdtemp()

    def train_on_worker(config: dict[str, Any]) -> None:
        first, last = train_steps()
        train.report({"first": first, "last": last})

    def drive(config: dict[str, Any]) -> None:
        TorchTrainer(
            train_on_worker,
            train_loop_config=config,
            scaling_config=train.ScalingConfig(num_workers=1, resources_per_worker={"CPU": 1}),
            run_config=train.RunConfig(
                name=f"trial-{tune.get_context().get_trial_id()}", storage_path=storage, callbacks=[TuneReportCallback()]
            ),
        ).fit()

    ray.init(address="local", log_to_driver=False, num_cpus=2)
    results = tune.Tuner(
        tune.with_resources(drive, {"cpu": 0.1}),
        param_space={"learning_rate": tune.loguniform(1e-4, 1e-1)},
        tune_config=tune.TuneConfig(num_samples=trials, max_concurrent_trials=1),
        run_config=tune.RunConfig(storage_path=storage, verbose=0),
    ).fit()
    times = sorted((result.metrics["first"], result.metrics["last"]) for result in results)
    ray.shutdown()
    return np.array([after[0] - before[1] for before, after in zip(times, times[1:], strict=False)])


def main() -> int:
    """Measure, print, and say whether the targets are met."""
    met = []
    rows, promotions, _ = warm(trials=24, slots=1, seconds=0)
    ours = hand_overs(rows)
    peer = documented(trials=6)
    print(f"{'hand-over, seconds':<28}{'n':>5}{'median':>9}{'95th':>9}")
    print(f"{'warm slot':<28}{len(ours):>5}{np.median(ours):>9.3f}{np.quantile(ours, 0.95):>9.3f}   ({promotions} promotions)")
    print(f"{'TorchTrainer.fit a trial':<28}{len(peer):>5}{np.median(peer):>9.2f}{np.quantile(peer, 0.95):>9.2f}")
    print(f"ratio of the medians {np.median(peer) / np.median(ours):.0f}")
    met += [np.median(ours) <= 0.5, np.median(peer) >= 20 * np.median(ours)]
    for slots in (2, 4):
        rows, promotions, groups = warm(trials=40, slots=slots, seconds=5)
        span = max(row["last"] for row in rows) - min(row["first"] for row in rows)
        busy = sum(row["last"] - row["first"] for row in rows) / (slots * span)
        print(
            f"{slots} slots: 40 trials, {promotions} promotions, {len(rows)} epochs in {span:.0f} s; {groups} worker groups, busy {busy:.1%}"
        )
        met += [groups == slots, busy >= 0.9]
    print("targets met" if all(met) else f"a target is missed: {met}")
    return 0 if all(met) else 1


if __name__ == "__main__":
    import os

    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ["PYTHONPATH"] = f"{Path(__file__).parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    started = time.time()
    code = main()
    print(f"{time.time() - started:.0f} s in all")
    sys.exit(code)
