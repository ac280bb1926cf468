"""Images from elsewhere, added to the training rows, such as the atlas' release HPAv18.

    DIR/train.csv, or the only table in DIR          Id,Target
    DIR/train/<Id>_<colour>.png or .jpg, or DIR/...  of any sizes; 8-bit grey, or in the stain's own colour

Tables, Ids and files are checked as the dataset's are. Images are resized to the dataset's size. HPAv18 names its images
<antibody>_<plate>_<well>_<number>. It stores each stain as a JPEG in its own colour, yellow as red and green. So the stain is
the brightest channel of a pixel.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hpa_search.data.decode import decode_image, decode_stain
from hpa_search.data.faults import DatasetFaults
from hpa_search.data.naming import Ids, find_channels
from hpa_search.data.packed import PackedImages, Progress, Source, pack_source
from hpa_search.data.resize import resize
from hpa_search.data.tables import read_table
from hpa_search.errors import UserError
from hpa_search.labels import parse_target, to_vector
from hpa_search.stains import COLOURS, NUM_STAINS
from hpa_search.system_errors import refused

SUFFIXES = (".png", ".jpg", ".jpeg")
_HIDDEN = (".", "~$")
"""Prefixes of the files that a Mac, an editor or an office program leaves beside a table."""
GRID = 16
"""Blocks along each side of the thumbnails that `lookalikes` compares."""
ALIKE = 0.95
"""Correlation above which two thumbnails show one field.

JPEG and resizing leave over .98; two fields of one slide stay below .9.
"""


@dataclass(frozen=True, eq=False)
class External:
    """External images and their labels.

    Row i of ``images`` and of ``labels``, bool (n, 28), is the image ``images.ids[i]``. ``fingerprint`` hashes Ids, labels
    and file sizes. A copy elsewhere has the same.
    """

    images: PackedImages
    labels: np.ndarray
    fingerprint: str


class JoinedImages:
    """The rows of ``first``, then those of ``second``, at one size."""

    def __init__(self, first: PackedImages, second: PackedImages) -> None:
        assert first.size == second.size
        self.first, self.second = first, second

    def gather(self, rows: np.ndarray) -> np.ndarray:
        """Copy the images at ``rows`` (b,) into a new uint8 array (b, 4, S, S)."""
        rows = np.asarray(rows)
        later = rows >= len(self.first)
        if not later.any():
            return self.first.gather(rows)
        images = np.empty((len(rows), NUM_STAINS, self.first.size, self.first.size), dtype=np.uint8)
        images[~later] = self.first.gather(rows[~later])
        images[later] = self.second.gather(rows[later] - len(self.first))
        return images

    def at_size(self, px: int) -> "JoinedImages":
        """Return the same images at ``px`` x ``px`` pixels."""
        return JoinedImages(self.first.at_size(px), self.second.at_size(px))


def read_external(root: Path, size: int, cache: Path, progress: Progress | None = None) -> External:
    """Read and pack the external images of ``root`` at ``size`` pixels.

    Raises DatasetFaults that lists every fault of table and images. Raises UserError where ``root`` is not such a folder or
    the cache cannot be written.
    """
    faults: list[str] = []
    targets = _read_targets(_table(root), faults)
    folder = root / "train" if (root / "train").is_dir() else root
    files = _files(folder, targets, faults)
    if faults:
        raise DatasetFaults(root, faults)
    source = Source(folder, tuple(targets), tuple(files), _decode, size, f", external, 8 bits, {size} px")
    labels = np.stack([to_vector(target) for target in targets.values()])
    return External(pack_source(source, cache, progress), labels, _fingerprint(source, targets))


def _fingerprint(source: Source, targets: dict[str, tuple[int, ...]]) -> str:
    digest = hashlib.sha256()
    for (identifier, target), files in zip(targets.items(), source.files, strict=True):
        digest.update(f"{identifier},{target},{[file.stat().st_size for file in files]}\n".encode())
    return digest.hexdigest()


def lookalikes(images: PackedImages, others: PackedImages, rows: np.ndarray) -> np.ndarray:
    """Return bool (n,), true for ``images`` that show a field of ``others`` at ``rows``.

    Training on them would train on the rows that judge. Thumbnails of all channels are correlated. So resizing, JPEG and
    another gain do not hide a field. A rotation or another crop would.
    """
    judged = _thumbnails(others, rows)
    alike = np.zeros(len(images), dtype=bool)
    for start in range(0, len(images), _CHUNK):
        part = np.arange(start, min(start + _CHUNK, len(images)))
        alike[part] = (_thumbnails(images, part) @ judged.T).max(axis=1, initial=-1) > ALIKE
    return alike


_CHUNK = 256


def _thumbnails(images: PackedImages, rows: np.ndarray) -> np.ndarray:
    """Return float32 (n, 4 * GRID * GRID) whose products are correlations.

    Each channel has mean 0, each row length 1.
    """
    parts = []
    for start in range(0, len(rows), _CHUNK):
        small = resize(images.gather(rows[start : start + _CHUNK]), GRID).astype(np.float32)
        small -= small.mean(axis=(2, 3), keepdims=True)
        small /= np.maximum(np.linalg.norm(small, axis=(2, 3), keepdims=True), 1e-6)
        flat = small.reshape(len(small), -1)
        parts.append(flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6))
    return np.concatenate(parts) if parts else np.empty((0, NUM_STAINS * GRID * GRID), dtype=np.float32)


def _table(root: Path) -> Path:
    if not root.is_dir():
        raise UserError(f"{root} is not a folder; external images need a table Id,Target and their files")
    try:
        tables = sorted(path for path in root.iterdir() if path.suffix.lower() == ".csv" and not path.name.startswith(_HIDDEN))
    except OSError as error:
        raise refused(error, root, option="--external", doing="cannot be listed") from error
    if (root / "train.csv") in tables:
        return root / "train.csv"
    if len(tables) != 1:
        names = f": {', '.join(table.name for table in tables[:5])}" if tables else ""
        raise UserError(f"{root}: {len(tables)} tables (*.csv{names}); expected train.csv, or one table Id,Target")
    return tables[0]


def _read_targets(table: Path, faults: list[str]) -> dict[str, tuple[int, ...]]:
    targets: dict[str, tuple[int, ...]] = {}
    rows = read_table(table, ("Id", "Target"), faults)
    ids = Ids(f"{table.name}, ", faults)
    for line, (identifier, target) in rows or []:
        if ids.add(identifier, line):
            try:
                targets[identifier] = parse_target(target)
            except ValueError as error:
                faults.append(f"{table.name}, line {line}: {error}")
    if rows == []:
        faults.append(f"{table.name}: has no rows; expected one for each image")
    return targets


def _files(folder: Path, ids: Iterable[str], faults: list[str]) -> list[tuple[Path, ...]]:
    found: list[tuple[Path, ...]] = []
    try:
        channels = find_channels(folder, SUFFIXES)
    except OSError as error:
        faults.append(f"{folder} cannot be listed: {error.strerror}")
        return found
    for identifier in ids:
        faults += [f"{folder.name}/{lack}" for lack in channels.lacking(identifier)]
        here = channels.files.get(identifier, {})
        found.append(tuple(folder / here[colour] for colour in COLOURS if colour in here))
    return found


def _decode(files: Sequence[Path], size: int | None) -> tuple[np.ndarray | None, list[str]]:
    assert size is not None
    return decode_image(files, size, _stain)


def _stain(file: Path, size: int | None) -> np.ndarray:
    """Return one stain as uint8 (size, size)."""
    assert size is not None
    return resize(decode_stain(file)[None, None], size)[0, 0]
