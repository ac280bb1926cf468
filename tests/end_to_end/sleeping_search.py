"""Runs a search of sleeping trials: sleeping_search.py OUT SETTINGS-as-JSON."""

import json
import sys
from pathlib import Path

from sleeper import SleepJob, open_sleeper

from hpa_search.engine.driver import Site, run_search
from hpa_search.engine.worker import Trials
from hpa_search.errors import UserError
from hpa_search.search.shelf import Shelf
from hpa_search.search.trial_files import WorkTrialFiles
from hpa_search.space.parsing import parse_search
from hpa_search.storage.opened import WorkingCopy

SPACE = """
name: sleeping
space:
  learning_rate: {{log_range: [1.0e-4, 1.0e-1]}}
budget: {budget}
scheduler: {{kind: {kind}, min_epochs: 1, max_epochs: {top}, eta: 3}}
resources: {{slots: {slots}, cpus: {cpus}, gpus: {gpus}, workers: {workers}}}
seed: {seed}
keep: {keep}
"""


def main() -> None:
    out, settings = Path(sys.argv[1]), json.loads(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    shape = {"budget": "{trials: 9}", "slots": 2, "cpus": 0.5, "gpus": 0, "workers": 1, "kind": "promotion", "top": 9}
    shape |= {"seed": 0, "keep": "needed"}
    shape |= {name: settings.pop(name) for name in shape if name in settings}
    if "trials" in settings:
        shape["budget"] = f"{{trials: {settings.pop('trials')}}}"
    search = parse_search(SPACE.format(**shape), "sleeping.yaml")
    address, study = settings.pop("ray", None), settings.pop("study", None)
    job = SleepJob(out, **settings)
    try:
        shelf = Shelf(search, WorkTrialFiles(WorkingCopy.of(out)))
        outcome = run_search(search, Site(out, study, ray_address=address), Trials(open_sleeper, job), shelf=shelf)
    except UserError as error:
        print(f"Error: {error}", flush=True)
        sys.exit(2)
    sys.exit({"finished": 0, "interrupted": 3, "paused": 4, "stopped": 5}[outcome])


if __name__ == "__main__":
    main()
