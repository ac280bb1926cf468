"""Logits of finished networks, computed on a cluster's slots: the driver's machine may have no GPU.

The images of each network are cut into portions. As many actors as there are slots take them, whatever their network. What a portion
gave is kept in OUT/labelled until the final stage is over, so that a killed driver's successor goes on from there.
"""

import hashlib
import logging
import shutil
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray
from ray.actor import ActorHandle
from ray.exceptions import RayActorError, RayTaskError

from hpa_search.bundle.predict import NetworkFile, Predictor
from hpa_search.config import TestTime
from hpa_search.data.kaggle import Dataset, Folder, read_dataset
from hpa_search.data.packed import PackedImages, pack
from hpa_search.engine.cluster_up import ray_up
from hpa_search.engine.scratch import scratch_folder
from hpa_search.engine.slot import count_slots, gpus_per_worker, in_words
from hpa_search.engine.stay import GPUS
from hpa_search.errors import UserError
from hpa_search.files import whole
from hpa_search.labels import NUM_LABELS
from hpa_search.ledger.ledger import Ledger
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
"""How often a portion may fail before the final stage is given up, and how often an actor is replaced on average."""
SLOW_SECONDS = 60.0
"""If no portion comes back for so long, idle actors compute those that are awaited as well, and new nodes get actors."""
TELL_SECONDS = 15.0


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

    def ready(self) -> None:
        """Return when the actor is up."""

    def label(
        self,
        network: NetworkFile,
        weights: NDArray[np.uint8],
        digest: str,
        folder: Folder,
        rows: NDArray[np.int64],
        tta: TestTime,
    ) -> NDArray[np.float32]:
        """Return the logits (n, 28) of the images at ``rows`` of ``folder``. ``weights`` are the bytes of the network's file."""
        wanted = digest, network, tta
        if self._last is None or self._last[0] != wanted:
            self._last = None  # before the next one takes memory
            self._last = wanted, Predictor(network, tta, weights.tobytes())
        return self._last[1](self._of(folder), rows)

    def _of(self, folder: Folder) -> PackedImages:
        if folder not in self._images:
            dataset = read_dataset(localise(self._data, self._cache, first=OUTAGE_SECONDS))
            self._images[folder] = pack(*dataset.files_of(folder), self._cache)
        return self._images[folder]


class OnSlots:
    """Computes logits on the slots of the Ray at ``address``, on the ``dataset`` at ``data``, for the search in ``work``.

    Ray is joined when the first are asked for, and left when the block ends.
    """

    def __init__(
        self,
        address: str,
        resources: Resources,
        data: Location,
        dataset: Dataset,
        cache: Path,
        work: WorkingCopy,
        say: Callable[[str], None],
    ) -> None:
        self._stack, self._address, self._resources, self._work, self._say = ExitStack(), address, resources, work, say
        self._data, self._cache, self._dataset = Place.of(data).resolve().plain, usable(cache).resolve(), dataset
        self._kept = work.folder / LABELLED
        self._crew: _Crew | None = None

    def __enter__(self) -> "OnSlots":
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def logits(
        self, networks: Sequence[NetworkFile], folder: Folder, rows: NDArray[np.int64], tta: TestTime
    ) -> NDArray[np.float32]:
        """Return the logits (m, n, 28) of m networks for the images at ``rows`` (n,) of ``folder``.

        Raises UserError for a network that cannot be used, and if portions fail again and again.
        """
        crew = self._joined()
        digests = [hashlib.sha256(network.weights.read_bytes()).hexdigest() for network in networks]
        ids = self._dataset.files_of(folder)[1]
        portions = [
            _Portion(place, start, part := rows[start : start + ROWS], _key(network, digest, folder, part, ids, tta))
            for place, (network, digest) in enumerate(zip(networks, digests, strict=True))
            for start in range(0, len(rows), ROWS)
        ]
        found = np.full((len(networks), len(rows), NUM_LABELS), np.nan, np.float32)

        def take(portion: _Portion, logits: NDArray[np.float32]) -> None:
            found[portion.network, portion.start : portion.start + len(portion.rows)] = logits

        waiting = []
        for portion in portions:
            kept = self._read(portion)
            if kept is None:
                waiting.append(portion)
            else:
                take(portion, kept)
        if before := len(portions) - len(waiting):
            self._say(f"{before} of {len(portions)} portion(s) are known already.")
        if waiting:
            self._say(
                f"Labelling {len(rows)} images with {len(networks)} network(s) on the cluster's slots, {crew.in_words}: "
                f"{len(waiting)} portion(s)."
            )
            sent = _Sent(networks, digests, waiting)
            start = partial(_label, sent=sent, folder=folder, tta=tta)
            for done, (portion, logits) in enumerate(crew.compute(waiting, start), start=before + 1):
                sent.done(portion)
                self._keep(portion, logits)
                take(portion, logits)
                crew.tell(done, len(portions))
        return found

    def _joined(self) -> "_Crew":
        if self._crew is None:
            self._stack.enter_context(ray_up(self._address, self._stack.enter_context(scratch_folder())))
            self._work.fetch(f"{LABELLED}/*")
            needed = bool(Ledger.open(self._work.folder).noted().get(GPUS))
            gpus = gpus_per_worker(self._resources, needed=needed)
            self._crew = _Crew(self._resources, gpus, partial(_actor, self._resources, gpus, self._data, self._cache), self._say)
        return self._crew

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


class _Crew:
    """The actors, as many as there are slots, and what each of them does. One that fails is replaced by another."""

    def __init__(self, resources: Resources, gpus: float, make: Callable[[], ActorHandle], say: Callable[[str], None]) -> None:
        self._resources, self._gpus, self._make, self._say = resources, gpus, make, say
        self._idle: list[ActorHandle] = []
        self._busy: dict[Any, tuple[ActorHandle, _Portion | None]] = {}
        """By the reference to what comes back: the actor, and its portion. Without one it is coming up."""
        self._replaced, self._told = 0, time.monotonic()
        self._fill()

    @property
    def in_words(self) -> str:
        """What each slot has."""
        return in_words(self._resources, self._gpus)

    def compute(
        self, wanted: Sequence[_Portion], start: Callable[[ActorHandle, _Portion], Any]
    ) -> Iterator[tuple[_Portion, NDArray[np.float32]]]:
        """Yield each portion with its logits, in the order in which they come. ``start`` hands one to an actor."""
        waiting, awaited, tries, doubled = deque(wanted), set(wanted), Counter[_Portion](), set[_Portion]()
        while awaited:
            while self._idle and waiting:
                if (portion := waiting.popleft()) in awaited:  # another actor may have been faster
                    actor = self._idle.pop()
                    self._busy[start(actor, portion)] = actor, portion
            finished, _ = ray.wait(list(self._busy), num_returns=1, timeout=SLOW_SECONDS)
            if not finished:
                self._fill()
                again = [portion for _, portion in self._busy.values() if portion in awaited and portion not in doubled]
                waiting += again[: len(self._idle)]
                doubled.update(waiting)
                if not again and not self._idle:
                    self._say("No slot has come up yet: the cluster's places are taken, or their nodes are not there.")
            for reference in finished:
                actor, done = self._busy.pop(reference)
                try:
                    logits = ray.get(reference)
                except (RayActorError, RayTaskError) as error:
                    self._replace(actor, error)
                    if done is not None and done in awaited:
                        tries[done] += 1
                        _give_up(error, tries[done] == MOST_TRIES)
                        waiting.append(done)
                    continue
                self._idle.append(actor)
                if done is not None and done in awaited:
                    awaited.remove(done)
                    yield done, logits

    def tell(self, done: int, total: int) -> None:
        """Say how far it is, every few seconds."""
        if done == total or time.monotonic() - self._told > TELL_SECONDS:
            self._told = time.monotonic()
            self._say(f"Labelled {done} of {total} portion(s).")

    def _fill(self) -> None:
        """Bring up an actor for each place that has none."""
        places = max(count_slots(self._resources, self._gpus) * self._resources.workers, 1)
        for _ in range(places - len(self._idle) - len(self._busy)):
            self._begin()

    def _begin(self) -> None:
        actor = self._make()
        self._busy[actor.ready.remote()] = actor, None

    def _replace(self, actor: ActorHandle, error: Exception) -> None:
        """Bring up another actor: this one's process may be spoiled, or its node unfit."""
        ray.kill(actor)
        self._replaced += 1
        actors = len(self._idle) + len(self._busy) + 1
        _give_up(error, self._replaced > MOST_TRIES * actors)
        self._begin()


class _Sent:
    """The weights of networks in Ray's object store, from the first of their portions to the last."""

    def __init__(self, networks: Sequence[NetworkFile], digests: Sequence[str], portions: Sequence[_Portion]) -> None:
        self.networks, self.digests = networks, digests
        self._left = Counter(portion.network for portion in portions)
        self._weights: dict[int, Any] = {}

    def weights(self, network: int) -> Any:
        """Return the reference to a network's weights."""
        if network not in self._weights:
            self._weights[network] = ray.put(np.frombuffer(self.networks[network].weights.read_bytes(), np.uint8))
        return self._weights[network]

    def done(self, portion: _Portion) -> None:
        """Note that a portion has come back."""
        self._left[portion.network] -= 1
        if not self._left[portion.network]:
            self._weights.pop(portion.network, None)


def _label(actor: ActorHandle, portion: _Portion, *, sent: _Sent, folder: Folder, tta: TestTime) -> Any:
    network, digest = sent.networks[portion.network], sent.digests[portion.network]
    return actor.label.remote(network, sent.weights(portion.network), digest, folder, portion.rows, tta)


def _actor(resources: Resources, gpus: float, data: Location, cache: Path) -> ActorHandle:
    # A call waits while its actor's node is gone, and the actor comes up on another one.
    options = {"max_restarts": -1, "max_task_retries": MOST_TRIES - 1, "scheduling_strategy": "SPREAD"}
    actor: ActorHandle = ray.remote(Labeller).options(num_cpus=resources.cpus, num_gpus=gpus, **options).remote(data, cache, gpus)
    return actor


def _give_up(error: Exception, over: bool) -> None:
    """Raise what an actor raised if that is the user's to mend, or if enough was tried."""
    cause = error.cause if isinstance(error, RayTaskError) else error
    if isinstance(cause, UserError) or (over and isinstance(cause, OSError)):
        raise cause
    if over:
        lines = [line for line in str(error).splitlines() if line.strip()]
        raise UserError(f"labelling on the slots failed again and again: {lines[-1] if lines else type(error).__name__}")
    logger.warning("labelling on a slot is tried again: %s", error)


def forget(work: WorkingCopy) -> None:
    """Remove what portions gave: the final stage is over, or another one begins."""
    for name in work.sizes(LABELLED):
        work.remove(name)
    shutil.rmtree(work.folder / LABELLED, ignore_errors=True)


def _key(network: NetworkFile, digest: str, folder: Folder, rows: NDArray[np.int64], ids: Sequence[str], tta: TestTime) -> str:
    words = digest, network.config.model_dump_json(), tuple(network.mean), tuple(network.std), folder, tta
    images = [ids[row] for row in rows]
    return hashlib.sha256(repr((words, images)).encode()).hexdigest()[:32]
