"""Plan a search on a dataset."""

import tempfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from rich.console import Console

from hpa_search.data.check import load_dataset
from hpa_search.data.progress import progress
from hpa_search.data.splits import read_split
from hpa_search.files import TEMPORARY
from hpa_search.layout import SPLIT
from hpa_search.plan.earlier import recall
from hpa_search.plan.plan import Plan, check, free_bytes, make_plan, slots_here
from hpa_search.plan.probe import probe
from hpa_search.search.reading import check_weights, read_search
from hpa_search.search.workspace import Inputs, prepare
from hpa_search.storage.data_cache import localised
from hpa_search.storage.place import Location

PROBE_SECONDS = 60.0


def plan(
    space: Path,
    data: Location,
    cache: Path,
    *,
    out: Path = Path(),
    slots: int | None = None,
    console: Console,
    say: Callable[[str], None] = print,
) -> Plan:
    """Say what the search of the file ``space`` will do on ``data``, and return it.

    Its first trials are trained for a few steps on this machine. Trials like those of earlier searches here take as long as they did. ``out`` is the folder in which it will write; ``slots`` is the number
    of slots if it is not this machine's. Raises UserError for settings that cannot work, after the plan was said.
    """
    search, text = read_search(space)
    check_weights(search)
    here = slots_here(search.resources)
    with localised(data, cache, say=say) as root, tempfile.TemporaryDirectory(prefix=TEMPORARY) as folder:
        with progress(console, "Checking and packing images") as tell:
            dataset, images, _ = load_dataset(root, cache, tell)
        job = prepare(Path(folder) / "out", search, text, Inputs(dataset, images, place=root), cache, lambda line: None)
        rows = len(read_split(Path(folder) / "out" / SPLIT, dataset.ids).train)
        with progress(console, "Training the first trials for a few steps") as tell:
            probed = probe(job, search, min(slots or here, here), PROBE_SECONDS, tell)
    made = make_plan(search, slots or here, probed, recall(cache), rows)
    free = free_bytes(out)
    for line in made.lines(datetime.now(), free):
        say(line)
    check(made, free, out.absolute())
    return made
