"""The files of OUT beside the ledger: search file, split and provenance. They are written once and checked by each later run."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from hpa_search import __version__
from hpa_search.config import Record
from hpa_search.data.external import External, lookalikes
from hpa_search.data.kaggle import Dataset, image_file
from hpa_search.data.packed import PackedImages
from hpa_search.data.splits import Split, fold_split, make_split, read_split, write_split
from hpa_search.data.statistics import channel_statistics
from hpa_search.errors import UserError
from hpa_search.explain import explain
from hpa_search.files import write_json, write_text
from hpa_search.labels import LABELS, to_target, to_vector
from hpa_search.layout import PROVENANCE, SEARCH, SPLIT, STUDY
from hpa_search.space.parsing import parse_checked
from hpa_search.space.search import Search
from hpa_search.stains import COLOURS
from hpa_search.storage.data_cache import usable
from hpa_search.storage.place import Location, Place
from hpa_search.system_errors import OUT, refused, refusing
from hpa_search.system_files import is_users_file
from hpa_search.training.job import Job
from hpa_search.training.trial_data import CROSS_FIT_FOLDS

LEAST_VALIDATION = CROSS_FIT_FOLDS
"""The fewest validation rows: thresholds are fitted on all folds of them but one."""


CHANGEABLE = ("resources", "keep", "repeatable")
"""The settings of a search that may change when it is resumed."""


class ExternalRows(Record):
    """The external images of a search.

    ``images`` is their number, ``used`` the rows that are trained on, and ``positives`` the number of these with each label (28).
    """

    folder: str
    fingerprint: str
    images: int
    used: tuple[int, ...]
    positives: tuple[int, ...]


class Provenance(Record):
    """The software and data of a search. ``mean`` and ``std`` (4 each, 0..1 units) are those of the training rows.

    ``classes`` are the label ids that the objective averages over.
    """

    version: str
    data: str
    fingerprint: str
    images: int
    native_size: int
    labels: tuple[str, ...]
    classes: tuple[int, ...]
    mean: tuple[float, float, float, float]
    std: tuple[float, float, float, float]
    packages: dict[str, str]
    external: ExternalRows | None = None


@dataclass(frozen=True, eq=False)
class Inputs:
    """The data of a search: the dataset, its packed images, and external images with their folder, or None.

    ``place`` is the place that the dataset was fetched from, None if that is its root.
    """

    dataset: Dataset
    images: PackedImages
    external: External | None = None
    external_folder: Location | None = None
    place: Location | None = None

    @property
    def data(self) -> Place:
        """The place of the dataset, as every node finds it."""
        return Place.of(self.place or self.dataset.root).resolve()


def prepare(
    out: Path,
    search: Search,
    text: str,
    inputs: Inputs,
    cache: Path,
    say: Callable[[str], None],
    *,
    place: Location | None = None,
    names: Sequence[str] | None = None,
) -> Job:
    """Make ``out`` ready for the search, or check that it holds this search on this data. Return the job of the workers.

    The place of the data and the resources may have changed; `keep_changes` writes such changes. If ``out`` is a mirror,
    ``place`` is its original, where workers find it, and ``names`` are the files there. Both are None otherwise.

    Raises UserError as `check_out`, if validation has too few rows, if no class has enough positives, or if the external
    images differ.
    """
    dataset, images = inputs.dataset, inputs.images
    fingerprint = check_out(out, search, text, dataset, cache, names)
    if not (out / PROVENANCE).is_file():
        split = _split(search, dataset)
        if len(split.validation) < LEAST_VALIDATION:
            raise UserError(
                f"split: {len(split.validation)} validation images, but {LEAST_VALIDATION} are needed; "
                "give validation a larger share"
            )
        external = external_rows(inputs, split)
        classes = _objective_classes(search, dataset.labels, split, external)
        mean, std = channel_statistics(images, split.train)
        provenance = provenance_of(inputs, fingerprint, classes, (mean.tolist(), std.tolist()), external)
        write_workspace(out, text, dataset.ids, split, provenance)
    there, provenance = read_again(out, search)
    _check_external(out, provenance.external, inputs)
    _say_versions(provenance, say)
    _say_what(search, read_split(out / SPLIT, dataset.ids), provenance, say)
    return make_job(place or out, there, provenance, inputs, cache)


def keep_changes(out: Path, search: Search, text: str, inputs: Inputs) -> None:
    """Write the changes to the search in ``out`` since it began: settings of `CHANGEABLE`, and the places of its data.

    Only the driver that holds the lease may call this.
    """
    there, provenance = read_workspace(out)
    moved = _moved(provenance, inputs)
    if any(getattr(there, name) != getattr(search, name) for name in CHANGEABLE):
        write_text(out / SEARCH, text)
    if moved != provenance:
        write_json(out / PROVENANCE, moved.model_dump(mode="json"))


def write_workspace(out: Path, text: str, ids: Sequence[str], split: Split, provenance: Provenance) -> None:
    """Write the files of a new search; ``text`` is the text of its search file."""
    write_text(out / SEARCH, text)
    write_split(out / SPLIT, ids, split)
    # Last: its presence says that the other files are whole.
    write_json(out / PROVENANCE, provenance.model_dump(mode="json"))


def check_out(out: Path, search: Search, text: str, dataset: Dataset, cache: Path, names: Sequence[str] | None = None) -> str:
    """Return the fingerprint of the data if ``out`` is free for this search or holds it. Write nothing.

    ``names`` are the files in the place that ``out`` mirrors, None if ``out`` is not a mirror.
    Raises UserError if ``out`` holds another search, other data or foreign files.
    """
    fingerprint = _fingerprint(dataset)
    if (out / PROVENANCE).is_file():
        _check_same(out, search, fingerprint)
    else:
        _check_empty(out, text, cache, names)
    return fingerprint


def read_workspace(out: Path) -> tuple[Search, Provenance]:
    """Return the search in ``out`` and its provenance. Raises UserError if ``out`` holds no search."""
    try:
        text = (out / SEARCH).read_text(encoding="utf-8")
        provenance = Provenance.model_validate_json((out / PROVENANCE).read_bytes())
    except ValidationError as error:
        raise explain(error, str(out / PROVENANCE), Provenance) from None
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise UserError(f"{out}: no search here, or a damaged one ({error}); give the --out of a `hpa-search run`") from None
    except OSError as error:
        raise refused(error, out, option=OUT, doing="the search cannot be read") from error
    return parse_checked(text, str(out / SEARCH)), provenance


def read_again(out: Path, search: Search) -> tuple[Search, Provenance]:
    """Return the search as stored in ``out``, with the settings of `CHANGEABLE` of ``search``, and its provenance.

    Suggestions depend on the order of dimensions, which may differ in ``search``.
    """
    there, provenance = read_workspace(out)
    return there.model_copy(update={name: getattr(search, name) for name in CHANGEABLE}), provenance


def _split(search: Search, dataset: Dataset) -> Split:
    settings, groups = search.split, dataset.groups if search.split.grouped else None
    if settings.folds is not None:
        made = fold_split(dataset.labels, groups, settings.test, settings.folds, settings.seed, settings.method)
        return made.judged_by(settings.fold)
    shares = (settings.train, settings.validation, settings.test)
    return make_split(dataset.labels, groups, shares, settings.seed, settings.method)


def external_rows(inputs: Inputs, split: Split) -> ExternalRows | None:
    """Return the external images to train on, or None. An image that shows a field of validation or test rows is left out."""
    if inputs.external is None:
        return None
    scored = np.concatenate([split.validation, split.test])
    left_out = lookalikes(inputs.external.images, inputs.images, scored)
    left_out |= np.isin(inputs.external.images.ids, np.array(inputs.dataset.ids)[scored])
    return ExternalRows(
        folder=str(inputs.external_folder),
        fingerprint=inputs.external.fingerprint,
        images=len(left_out),
        used=tuple(np.flatnonzero(~left_out).tolist()),
        positives=tuple(inputs.external.labels[~left_out].sum(axis=0).tolist()),
    )


def _check_external(out: Path, there: ExternalRows | None, inputs: Inputs) -> None:
    found = None if inputs.external is None else inputs.external.fingerprint
    if found != (there.fingerprint if there else None):
        was = f"with the external images of {there.folder}" if there else "without external images"
        raise UserError(f"{out} holds a search {was}; give the same external images, or choose another --out")


def _moved(provenance: Provenance, inputs: Inputs) -> Provenance:
    """Return the provenance with the present places of the same data."""
    external = provenance.external
    if external is not None:
        external = external.model_copy(update={"folder": str(inputs.external_folder)})
    return provenance.model_copy(update={"data": str(inputs.data), "external": external})


def _say_versions(provenance: Provenance, say: Callable[[str], None]) -> None:
    """Say which software has changed since the search began: new results may then not repeat the old."""
    before = {"hpa-search": provenance.version, **provenance.packages}
    now = {"hpa-search": __version__, **_packages()}
    changed = [f"{name} {before[name]} (now {here})" for name, here in now.items() if before.get(name, here) != here]
    if changed:
        say(
            f"This search was begun with {', '.join(changed)}; "
            "its further results may differ from what those versions would give."
        )


def _packages() -> dict[str, str]:
    return {name: version(name) for name in ("torch", "timm", "ray", "optuna", "numpy", "scipy", "scikit-learn")}


def _say_what(search: Search, split: Split, provenance: Provenance, say: Callable[[str], None]) -> None:
    say(f"Data: {len(split.train)} training, {len(split.validation)} validation, {len(split.test)} test images.")
    if external := provenance.external:
        left = external.images - len(external.used)
        say(
            f"External: {len(external.used)} more training images; {left} left out, "
            "which show fields of validation or test images."
        )
    if search.labels is not None:
        say(f"Labels: {', '.join(LABELS[label] for label in search.labels)}; the others are neither trained nor scored.")
    least = search.objective.min_positives
    say(
        f"Objective: validation {search.objective.metric} over {len(provenance.classes)} of {len(search.labels or LABELS)} classes "
        f"(those with {least} or more positives in training and in validation)."
    )


def make_job(out: Location, search: Search, provenance: Provenance, inputs: Inputs, cache: Path) -> Job:
    """Return the job for the workers of the search in ``out``."""
    return Job(
        data=inputs.data.plain,
        cache=usable(cache).resolve(),
        out=Place.of(out).resolve().plain,
        epochs=search.scheduler.max_epochs,
        seed=search.seed,
        objective=search.objective.metric,
        classes=provenance.classes,
        mean=provenance.mean,
        std=provenance.std,
        space=search,
        labels=search.labels,
        external=inputs.external_folder,
        external_rows=provenance.external.used if provenance.external else (),
        repeatable=search.repeatable,
    )


def _objective_classes(search: Search, labels: np.ndarray, split: Split, external: ExternalRows | None) -> list[int]:
    least = search.objective.min_positives
    trained = labels[split.train].sum(axis=0) + (np.array(external.positives) if external else 0)
    enough = (trained >= least) & (labels[split.validation].sum(axis=0) >= least)
    if search.labels is not None:
        enough &= to_vector(search.labels)
    if not enough.any():
        raise UserError(
            f"no class has {least} positives (objective.min_positives) in the training and in the validation rows; "
            "lower min_positives, give validation a larger share, or use more images"
        )
    return [int(index) for index in np.flatnonzero(enough)]


def _check_same(out: Path, search: Search, fingerprint: str) -> None:
    there, provenance = read_workspace(out)
    changed = [name for name in Search.model_fields if getattr(there, name) != getattr(search, name)]
    if list(there.space) == list(search.space):  # the new file may then replace the old
        changed = [name for name in changed if name not in CHANGEABLE]
    if changed:
        raise UserError(
            f"{out} holds another search: {', '.join(changed)} differ from {out / SEARCH}; choose another --out, or run that file"
        )
    if provenance.fingerprint != fingerprint:
        raise UserError(
            f"{out} holds a search on other data (its --data was {provenance.data}); choose another --out, or give that data"
        )


def _check_empty(out: Path, text: str, cache: Path, names: Sequence[str] | None) -> None:
    """Refuse a folder with files other than the cache, the first files of this search, hidden files and the system's."""
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; --out must be a folder")
    with refusing(out, option=OUT, doing="cannot be read"):
        begun = (out / SEARCH).is_file() and (out / SEARCH).read_bytes() == text.encode()
        there = [out / name for name in names or ()] + (list(out.iterdir()) if out.is_dir() else [])
    known = {SEARCH, SPLIT, STUDY} if begun else set()
    found = {path for path in there if path.name not in known and is_users_file(path.name)}
    foreign = sorted(path.name for path in found if not cache.resolve().is_relative_to(path.resolve()))
    if foreign:
        raise UserError(
            f"{out} holds files that are not a search's ({', '.join(foreign[:3])}); choose an empty or new folder as --out"
        )


def _fingerprint(dataset: Dataset) -> str:
    """Return a hash of ids, labels, groups and file sizes. A copy of the data in another place has the same hash."""
    digest = hashlib.sha256()
    groups = dataset.groups or dataset.ids
    for identifier, labels, group in zip(dataset.ids, dataset.labels, groups, strict=True):
        sizes = [(dataset.train_folder / image_file(identifier, colour)).stat().st_size for colour in COLOURS]
        digest.update(f"{identifier},{to_target(labels)},{group},{sizes}\n".encode())
    return digest.hexdigest()


def provenance_of(
    inputs: Inputs,
    fingerprint: str,
    classes: Sequence[int],
    statistics: tuple[Sequence[float], Sequence[float]],
    external: ExternalRows | None,
) -> Provenance:
    """Return the provenance of a search on ``inputs``. ``statistics`` are the channels' mean and std (4 each)."""
    mean, std = statistics
    return Provenance(
        version=__version__,
        data=str(inputs.data),
        fingerprint=fingerprint,
        images=len(inputs.dataset.ids),
        native_size=inputs.images.size,
        labels=LABELS,
        classes=tuple(classes),
        mean=tuple(map(float, mean)),  # type: ignore[arg-type]
        std=tuple(map(float, std)),  # type: ignore[arg-type]
        packages=_packages(),
        external=external,
    )
