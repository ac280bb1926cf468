"""Logits of finished networks, computed on a cluster's slots: the driver's machine may have no GPU.

The images of each network are cut into portions. As many actors as there are slots take them, whatever their network. What a portion
gave is kept in OUT/labelled until the final stage is over, so that a killed driver's successor goes on from there.
"""

import hashlib
import logging
import shutil
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray
from ray.actor import ActorHandle
from ray.exceptions import RayActorError, RayTaskError

from hpa_search.bundle.predict import NetworkFile, Predictor
from hpa_search.config import TestTime, TrialConfig
from hpa_search.data.kaggle import Folder, read_dataset
from hpa_search.data.packed import PackedImages, pack
from hpa_search.engine.cluster_up import ray_up
from hpa_search.engine.scratch import scratch_folder
from hpa_search.engine.slot import count_slots, gpus_per_worker, in_words
from hpa_search.errors import UserError
from hpa_search.files import whole
from hpa_search.labels import NUM_LABELS
from hpa_search.space.settings import Resources
from hpa_search.storage.data_cache import localise, usable
from hpa_search.storage.opened import WorkingCopy
from hpa_search.storage.patience import OUTAGE_SECONDS
from hpa_search.storage.place import Location, Place
from hpa_search.training.device import limit_memory

logger = logging.getLogger(__name__)

LABELLED = "labelled"
"""The folder in OUT for what portions gave."""
ROWS = 256
"""The number of images of a portion."""
MOST_TRIES = 4
"""How often a portion may lose its actor before it is given up."""
SLOW_SECONDS = 60.0
"""If no portion comes back for so long, an idle actor computes one of those that are awaited as well."""
TELL_SECONDS = 15.0


@dataclass(frozen=True)
class _Network:
    """A network as it is sent: its configuration and statistics, its file's name and hash, its weights in Ray's object store."""

    config: TrialConfig
    mean: tuple[float, ...]
    std: tuple[float, ...]
    name: str
    sha256: str
    weights: Any


@dataclass(frozen=True, eq=False)
class _Portion:
    """Rows of one network, from ``start`` on in what was asked for; ``key`` names what they give."""

    network: int
    start: int
    rows: NDArray[np.int64]
    key: str


class Labeller:
    """The actor's class. It holds its node's images, and the network that it used last."""

    def __init__(self, data: Location, cache: Path, gpus: float) -> None:
        limit_memory(gpus)
        self._data, self._cache = Place.of(data), cache
        self._images: dict[Folder, PackedImages] = {}
        self._last: tuple[object, Predictor] | None = None
        self._file = ""

    def label(
        self, network: _Network, weights: NDArray[np.uint8], folder: Folder, rows: NDArray[np.int64], tta: TestTime
    ) -> NDArray[np.float32]:
        """Return the logits (n, 28) of the images at ``rows`` of ``folder``. Raises UserError that names the network's file."""
        try:
            return self._predictor(network, weights, tta)(self._of(folder), rows)
        except UserError as error:
            raise UserError(str(error).replace(self._file, network.name)) from None

    def _predictor(self, network: _Network, weights: NDArray[np.uint8], tta: TestTime) -> Predictor:
        wanted = network.sha256, network.config, tta
        if self._last is None or self._last[0] != wanted:
            self._last = None  # before the next one takes memory
            with tempfile.NamedTemporaryFile(suffix=".safetensors") as file:
                file.write(weights.tobytes())
                file.flush()
                self._file = file.name
                self._last = wanted, Predictor(NetworkFile(network.config, Path(file.name), network.mean, network.std), tta)
        return self._last[1]

    def _of(self, folder: Folder) -> PackedImages:
        if folder not in self._images:
            dataset = read_dataset(localise(self._data, self._cache, first=OUTAGE_SECONDS))
            self._images[folder] = pack(*dataset.files_of(folder), self._cache)
        return self._images[folder]


class OnSlots:
    """Computes logits on slots, for `finish.stage`. Ray is joined when the first are asked for."""

    def __init__(
        self,
        stack: ExitStack,
        address: str,
        resources: Resources,
        data: Location,
        cache: Path,
        work: WorkingCopy,
        say: Callable[[str], None],
    ) -> None:
        self._stack, self._address, self._resources, self._work, self._say = stack, address, resources, work, say
        self._data, self._cache = Place.of(data).resolve().plain, usable(cache).resolve()
        self._kept = work.folder / LABELLED
        self._actors: list[ActorHandle] = []

    def logits(
        self, networks: Sequence[NetworkFile], folder: Folder, rows: NDArray[np.int64], tta: TestTime
    ) -> NDArray[np.float32]:
        """Return the logits (m, n, 28) of m networks for the images at ``rows`` (n,) of ``folder``.

        Raises UserError for a network that cannot be used, and if portions lose their actors again and again.
        """
        self._join()
        sent = [_sent(network) for network in networks]
        portions = [
            _Portion(place, start, part := rows[start : start + ROWS], _key(network, folder, part, tta))
            for place, network in enumerate(sent)
            for start in range(0, len(rows), ROWS)
        ]
        found = np.empty((len(networks), len(rows), NUM_LABELS), np.float32)

        def take(portion: _Portion, logits: NDArray[np.float32]) -> None:
            found[portion.network, portion.start : portion.start + len(portion.rows)] = logits

        waiting = deque[_Portion]()
        for portion in portions:
            kept = self._read(portion)
            if kept is None:
                waiting.append(portion)
            else:
                take(portion, kept)
        before = len(portions) - len(waiting)
        if waiting:
            told = f", {before} of them known already" if before else ""
            self._say(
                f"Labelling {len(rows)} images with {len(networks)} network(s) on {len(self._actors)} slot(s), "
                f"{in_words(self._resources, self._gpus)}: {len(portions)} portion(s){told}."
            )
            for done, (portion, logits) in enumerate(self._compute(waiting, sent, folder, tta), start=before + 1):
                self._keep(portion, logits)
                take(portion, logits)
                self._tell(done, len(portions))
        return found

    def forget(self) -> None:
        """Remove what portions gave: the final stage is over."""
        for name in self._work.sizes(LABELLED):
            self._work.remove(name)
        shutil.rmtree(self._kept, ignore_errors=True)

    def _join(self) -> None:
        if self._actors:
            return
        self._stack.enter_context(ray_up(self._address, self._stack.enter_context(scratch_folder())))
        self._work.fetch(f"{LABELLED}/*")
        self._gpus, self._told = gpus_per_worker(self._resources), time.monotonic()
        places = max(count_slots(self._resources, self._gpus) * self._resources.workers, 1)
        # An actor whose node is gone comes up on another.
        actor = ray.remote(Labeller).options(
            num_cpus=self._resources.cpus, num_gpus=self._gpus, max_restarts=-1, scheduling_strategy="SPREAD"
        )
        self._actors = [actor.remote(self._data, self._cache, self._gpus) for _ in range(places)]

    def _compute(
        self, waiting: deque[_Portion], networks: Sequence[_Network], folder: Folder, tta: TestTime
    ) -> Iterator[tuple[_Portion, NDArray[np.float32]]]:
        """Yield each portion that waits with its logits, in the order in which they come."""
        idle, running, tries, done = deque(self._actors), dict[Any, tuple[ActorHandle, _Portion]](), Counter[str](), set[str]()

        def start(portion: _Portion) -> None:
            actor, network = idle.popleft(), networks[portion.network]
            running[actor.label.remote(network, network.weights, folder, portion.rows, tta)] = actor, portion

        while waiting or any(portion.key not in done for _, portion in running.values()):
            while idle and waiting:
                start(waiting.popleft())
            finished, _ = ray.wait(list(running), num_returns=1, timeout=SLOW_SECONDS)
            if not finished and idle:
                start(next(portion for _, portion in running.values() if portion.key not in done))
            for reference in finished:
                actor, portion = running.pop(reference)
                idle.append(actor)
                try:
                    logits = ray.get(reference)
                except RayTaskError as error:
                    raise error.cause if isinstance(error.cause, UserError) else error from None
                except RayActorError as error:
                    tries[portion.key] += 1
                    if tries[portion.key] == MOST_TRIES:
                        raise UserError(f"labelling: {MOST_TRIES} processes in turn died at the same images ({error})") from None
                    if portion.key not in done:
                        waiting.append(portion)
                    continue
                if portion.key not in done:
                    done.add(portion.key)
                    yield portion, logits

    def _tell(self, done: int, total: int) -> None:
        if done == total or time.monotonic() - self._told > TELL_SECONDS:
            self._told = time.monotonic()
            self._say(f"Labelled {done} of {total} portion(s).")

    def _keep(self, portion: _Portion, logits: NDArray[np.float32]) -> None:
        with whole(self._kept / f"{portion.key}.npy") as path, path.open("wb") as file:
            np.save(file, logits, allow_pickle=False)

    def _read(self, portion: _Portion) -> NDArray[np.float32] | None:
        """Return what an earlier driver kept of a portion; None if nothing, or a damaged file."""
        try:
            found: NDArray[np.float32] = np.load(self._kept / f"{portion.key}.npy", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        return found if found.shape == (len(portion.rows), NUM_LABELS) and found.dtype == np.float32 else None


@contextmanager
def on_slots(
    address: str, resources: Resources, data: Location, cache: Path, work: WorkingCopy, say: Callable[[str], None]
) -> Iterator[OnSlots]:
    """Yield what computes logits on the slots of the Ray at ``address``, on the dataset at ``data``; leave Ray at the end."""
    with ExitStack() as stack:
        yield OnSlots(stack, address, resources, data, cache, work, say)


def _sent(network: NetworkFile) -> _Network:
    content = network.weights.read_bytes()
    weights, digest = ray.put(np.frombuffer(content, np.uint8)), hashlib.sha256(content).hexdigest()
    return _Network(network.config, tuple(network.mean), tuple(network.std), str(network.weights), digest, weights)


def _key(network: _Network, folder: Folder, rows: NDArray[np.int64], tta: TestTime) -> str:
    words = network.sha256, network.config.model_dump_json(), network.mean, network.std, folder, tta
    return hashlib.sha256(repr(words).encode() + rows.tobytes()).hexdigest()[:32]
