"""Compare the settings of a study on the validation rows."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hpa_search.data.kaggle import read_dataset, read_tables
from hpa_search.data.splits import read_split
from hpa_search.errors import UserError, nearest
from hpa_search.layout import PROVENANCE, SEARCH, SPLIT
from hpa_search.ledger.ledger import Ledger, TrialRecord
from hpa_search.scoring.comparison import Compared, compare_settings
from hpa_search.search.workspace import read_workspace
from hpa_search.space.search import Search
from hpa_search.storage.data_cache import TABLES, default_cache, localised
from hpa_search.storage.opened import WorkingCopy, opened
from hpa_search.storage.place import Location, Place
from hpa_search.training.checkpoint import read_logits
from hpa_search.training.job import trial_folder, trial_name

NEEDED = (SEARCH, PROVENANCE, SPLIT, "study.j*")
"""The files of a search in an object store that a comparison fetches first; the logits of its complete trials follow."""


def compare(out: Location, *, data: Location | None = None, by: Sequence[str] = (), cache: Path | None = None) -> list[Compared]:
    """Compare the settings of the search in ``out``, best first.

    A setting is one combination of the dimensions ``by``. An empty ``by`` means all dimensions but `replicate`. Each complete
    trial counts by its last epoch, and a setting by the mean of its trials. These differ only in their seeds, unless ``by``
    leaves out a dimension. ``data`` is the new place of a dataset that was moved. From an object store only tables and logits
    are fetched. They go into ``cache`` (None: the usual cache).
    Raises UserError without a search, for an unknown dimension, and for fewer than two settings.
    """
    near = cache or default_cache()
    with opened(out, near, *NEEDED) as work:
        return _compare(work, data, by, near)


def _compare(work: WorkingCopy, data: Location | None, by: Sequence[str], cache: Path) -> list[Compared]:
    out = work.folder
    search, provenance = read_workspace(out)
    trials = [facts for facts in Ledger.open(out).trials() if facts.end == "complete"]
    settings = [_setting(facts, _names(search, by)) for facts in trials]
    if len(set(settings)) < 2:
        raise UserError(
            f"{out}: {len(set(settings))} setting(s) with a complete trial; a comparison needs two: resume or extend the search"
        )
    place = Place.of(data or provenance.data)
    with localised(place, cache, suffixes=TABLES) as folder:
        dataset = read_dataset(folder) if place.is_local else read_tables(folder)
    rows = read_split(out / SPLIT, dataset.ids).validation
    work.fetch(*(f"{trial_name(facts.number)}/logits.npz" for facts in trials))
    logits = np.stack([read_logits(trial_folder(out, facts.number))[facts.epochs] for facts in trials])
    groups = None if dataset.groups is None else np.array(dataset.groups)[rows]
    return compare_settings(logits, dataset.labels[rows], settings, classes=provenance.classes, groups=groups)


def table(compared: Sequence[Compared]) -> list[str]:
    """Return the lines of a Markdown table with a line for each setting."""
    head = [
        "| setting | trials | macro AP | 90 % over rows | sd over trials | to the best | 90 % over rows | 90 % over rows and trials |",
        "|---|---|---|---|---|---|---|---|",
    ]
    return head + [_line(found) for found in compared]


def _line(found: Compared) -> str:
    spread = "" if np.isnan(found.spread) else f"{found.spread:.4f}"
    behind = "" if found.to_best is None else f"{found.to_best.value:+.4f}"
    over = [f"{one.low:+.4f} to {one.high:+.4f}" if one else "" for one in (found.to_best, found.to_best_with_trials)]
    ap = found.macro_ap
    cells = (found.name, str(found.trials), f"{ap.value:.4f}", f"{ap.low:.4f} to {ap.high:.4f}", spread, behind, *over)
    return f"| {' | '.join(cells)} |"


def _names(search: Search, by: Sequence[str]) -> list[str]:
    for name in by:
        if name not in search.space:
            raise UserError(
                f"--by {name}: not a dimension of the search{nearest(name, search.space)}; it has {', '.join(search.space)}"
            )
    return list(by) or [name for name in search.space if name != "replicate"]


def _setting(facts: TrialRecord, names: Sequence[str]) -> str:
    return ", ".join(f"{name} {facts.parameters[name]}" for name in names if name in facts.parameters)
