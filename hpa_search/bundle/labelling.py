"""Label a folder of images with a bundle. A killed run can resume."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from hpa_search.bundle.listing import find_images
from hpa_search.bundle.manifest import MANIFEST, Manifest, read_manifest, sha256
from hpa_search.bundle.parts import Parts, chunk_key
from hpa_search.bundle.predict import OpenBundle
from hpa_search.bundle.submission import check_ending, write_probabilities, write_submission
from hpa_search.data.faults import DatasetFaults
from hpa_search.data.packed import PackedImages, pack
from hpa_search.data.progress import progress
from hpa_search.errors import UserError
from hpa_search.files import check_writable
from hpa_search.labels import NUM_LABELS
from hpa_search.storage.data_cache import BUNDLE, localised
from hpa_search.storage.delivery import delivered
from hpa_search.storage.place import Location, Place
from hpa_search.system_errors import refusing
from hpa_search.training.device import choose_device

CHUNK = 256
"""The number of images decoded, predicted and kept at a time: at 512 x 512 pixels a file of 268 MB in the cache."""

Progress = Callable[[int, int], None]


def predict_folder(
    bundle: Location,
    images: Location,
    out: Location,
    cache: Path,
    *,
    console: Console,
    listed: Path | None = None,
    probabilities: Location | None = None,
) -> None:
    """Label a folder of images, or a dataset, with a bundle; write the submission to ``out``.

    ``listed`` is a file of Ids that selects images; see `listing.find_images`. ``probabilities`` is an .npz or .csv file for
    the calibrated probabilities. Each place may be in an object store. Inputs are fetched into ``cache``. Outputs are
    uploaded in the end. After a kill the same call resumes at the chunk that was running.
    Raises UserError for a damaged bundle, a faulty list, and a folder without images. Raises UserError for a place that
    cannot be written. Raises DatasetFaults that lists all damaged images, before any image is predicted.
    """
    target, kept = Place.of(out), None if probabilities is None else Place.of(probabilities)
    _check_places(target, kept)
    say = partial(console.print, highlight=False, markup=False)
    with ExitStack() as stack:
        near = stack.enter_context(localised(bundle, cache, suffixes=BUNDLE, say=say))
        folder = stack.enter_context(localised(images, cache, say=say))
        path = stack.enter_context(delivered(target, cache, say))
        also = None if kept is None else stack.enter_context(delivered(kept, cache, say))
        told = _label(near, (folder, listed), path, also, cache, console)
    more = f" Probabilities: {kept}." if kept else ""
    console.print(f"{told[0]} images labelled in {target}.{told[1]}{more}", highlight=False)


def _label(
    bundle: Path, images: tuple[Path, Path | None], out: Path, probabilities: Path | None, cache: Path, console: Console
) -> tuple[int, str]:
    """Label the ``images`` of a folder and a list. Return their number, and a remark on their labels."""
    manifest = read_manifest(bundle)
    work = _plan(bundle, manifest, *find_images(*images), cache)
    parts = Parts(out, work.keys, cache)
    found = _predict(work, parts, console)
    decision = manifest.decision_rule.decide(found)
    if probabilities is not None:
        write_probabilities(probabilities, work.ids, found)
    write_submission(out, work.ids, decision.labels)
    parts.remove()
    empty = int((~decision.labels.any(axis=1)).sum())
    left = f" {empty} have none of the labels that the bundle was trained for." if empty else ""
    filled = f" {decision.filled} had no label above its threshold and got their likeliest." if decision.filled else ""
    return len(work.ids), filled + left


def _check_places(out: Place, probabilities: Place | None) -> None:
    """Refuse a local file that cannot be written, before hours of predicting.

    `delivered` checks the places in object stores.
    """
    if probabilities is not None:
        check_ending(probabilities)
        if str(probabilities.resolve()) == str(out.resolve()):
            raise UserError(f"{out}: --out and --probabilities are the same file; give --probabilities another name")
    for place in (out, probabilities):
        if place is not None and place.is_local:
            _check_local(place.local, "--out" if place is out else "--probabilities")


def _check_local(path: Path, option: str) -> None:
    with refusing(path, option=option, doing="no file can be written here"):
        check_writable(path)


@dataclass(frozen=True)
class _Work:
    """The images ``ids`` of ``folder`` to predict, in ``chunks`` of rows, each with its key."""

    bundle: Path
    manifest: Manifest
    folder: Path
    ids: tuple[str, ...]
    chunks: tuple[range, ...]
    keys: tuple[str | None, ...]
    cache: Path

    def pack(self, chunk: int, tell: Progress | None = None) -> PackedImages:
        """Return the decoded images of a chunk."""
        return pack(self.folder, self._ids(self.chunks[chunk]), self.cache, tell)

    def _ids(self, rows: range) -> tuple[str, ...]:
        return self.ids[rows.start : rows.stop]


def _plan(bundle: Path, manifest: Manifest, folder: Path, ids: tuple[str, ...], cache: Path) -> _Work:
    chunks = tuple(range(start, min(start + CHUNK, len(ids))) for start in range(0, len(ids), CHUNK))
    device = choose_device()
    computed = f"{sha256(bundle / MANIFEST)} {device.device.type} {device.dtype}"
    keys = tuple(chunk_key(computed, folder, ids[rows.start : rows.stop]) for rows in chunks)
    return _Work(bundle, manifest, folder, ids, chunks, keys, cache)


def _predict(work: _Work, parts: Parts, console: Console) -> NDArray[np.float64]:
    """Return the probabilities (n, 28) of all images, including those of earlier runs."""
    found = np.empty((len(work.ids), NUM_LABELS))
    left = []
    for chunk, rows in enumerate(work.chunks):
        if (kept := parts.read(chunk, len(rows))) is None:
            left.append(chunk)
        else:
            found[rows.start : rows.stop] = kept
    ready = len(work.ids) - sum(len(work.chunks[chunk]) for chunk in left)
    if ready:
        console.print(f"{ready} of {len(work.ids)} images were predicted before; resuming with the others.", highlight=False)
    if not left:
        return found
    networks = OpenBundle(work.bundle, work.manifest)
    _decode(work, left, console)
    with progress(console, "Predicting") as tell:
        for chunk in left:
            rows = work.chunks[chunk]
            one = networks.probabilities(work.pack(chunk), np.arange(len(rows)), _scaled(tell, ready, len(rows), len(found)))
            parts.write(chunk, one)
            found[rows.start : rows.stop] = one
            ready += len(rows)
    return found


def _decode(work: _Work, chunks: Sequence[int], console: Console) -> None:
    """Decode every image into the cache, a chunk at a time. Raises DatasetFaults that lists all damaged images."""
    faults: list[str] = []
    sizes: dict[int, str] = {}
    total = sum(len(work.chunks[chunk]) for chunk in chunks)
    with progress(console, "Reading images") as tell:
        done = 0
        for chunk in chunks:
            try:
                sizes.setdefault(work.pack(chunk, _offset(tell, done, total)).size, work.ids[work.chunks[chunk].start])
            except DatasetFaults as error:
                faults += error.faults
            done += len(work.chunks[chunk])
    if faults:
        raise DatasetFaults(work.folder, faults)
    _check_sizes(work, sizes, console)


def _check_sizes(work: _Work, found: dict[int, str], console: Console) -> None:
    if len(found) > 1:
        (one, first), (other, second) = list(found.items())[:2]
        raise UserError(
            f"{work.folder}: images of several sizes: '{first}' has {one} pixels, '{second}' has {other}; "
            "put each size into a folder of its own"
        )
    wanted = sorted({member.config.input_size for member in work.manifest.members})
    if wanted != list(found):
        console.print(
            f"The images are {next(iter(found))} px; the bundle's networks see {', '.join(map(str, wanted))} px: resized.",
            highlight=False,
        )


def _offset(tell: Progress, before: int, total: int) -> Progress:
    return lambda done, of: tell(before + done, total)


def _scaled(tell: Progress, before: int, rows: int, total: int) -> Progress:
    """Return a progress that counts images from one that counts passes of members over ``rows`` images."""
    return lambda passes, of: tell(before + rows * passes // of, total)
