"""The final stage: choose, export, measure the export, publish it, and label the test images."""

import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from hpa_search.board.events import EventFiles
from hpa_search.board.tags import GAIN, RESULT, SEARCH, of_scalars
from hpa_search.board.validation import shown
from hpa_search.bundle.card import write_card
from hpa_search.bundle.export import Candidate, check_place, publish, write_bundle
from hpa_search.bundle.manifest import MANIFEST, Manifest
from hpa_search.bundle.onnx import write_onnx
from hpa_search.bundle.submission import write_submission
from hpa_search.engine.labelling import OnSlots, forget
from hpa_search.errors import UserError
from hpa_search.explain import explain
from hpa_search.figures.predictions import Predictions
from hpa_search.files import write_json
from hpa_search.finish.fold_members import FoldMembers
from hpa_search.finish.material import NEEDED, Material, read_material
from hpa_search.finish.measure import (
    OUT_OF_FOLD,
    VALIDATION,
    appraise_pool,
    as_json,
    label,
    measure,
    predictions_file,
    read_predictions,
    write_predictions,
)
from hpa_search.finish.pool import Pool, best_on_top
from hpa_search.finish.views import under_views
from hpa_search.labels import LABELS, to_vector
from hpa_search.locks import HeldError, Lock
from hpa_search.scoring.final import Ensemble, FinalChoice
from hpa_search.scoring.measured import MeasuredSearch
from hpa_search.space.settings import FinalStage
from hpa_search.storage.opened import WorkingCopy, opened
from hpa_search.storage.place import Location
from hpa_search.system_errors import OUT, NoLockService, message, refused, refusing

logger = logging.getLogger(__name__)

TrainFolds = Callable[[Material, Sequence[Candidate]], FoldMembers | None]

LOCK = ".finish.lock"
CHECKED = 4
"""The number of images on which an ONNX graph is compared with PyTorch."""
ORDER = ((), ("provenance.json", "result.json"))
DELETES = ("bundle/*", "*_predictions.npz", "labelled/*")
"""The order in which a search in an object store is written, and the files that may be deleted from it."""


def finish(
    out: Location | WorkingCopy,
    cache: Path,
    *,
    data: Location | None = None,
    also: Sequence[Location] = (),
    changes: Mapping[str, Any] | None = None,
    train_folds: TrainFolds | None = None,
    ray_address: str | None = None,
    say: Callable[[str], None] = print,
) -> MeasuredSearch | None:
    """Choose an ensemble of the search in ``out``, export it, and return what was measured.

    Writes bundle/ and result.json. With test rows in the split it writes test_predictions.npz. With a test/ in the dataset it
    writes submission.csv. ``data`` is the new place of a dataset that was moved. ``also`` are other searches on the same
    split. Their trials may become members. Trials of a search for some labels count for these labels only. ``changes``
    override the search's settings of `FinalStage`. ``train_folds`` trains the chosen members on the other folds too; see
    `folds.train_folds`. If that training is stopped, the result is None. With ``ray_address``, the slots of that Ray compute
    what networks say about images; else this process does. Raises UserError if no trial has finished an epoch, and while another final stage works in the same folder.
    """
    with ExitStack() as stack:
        work = stack.enter_context(opened(out, cache, *NEEDED, keeps=True, order=ORDER, deletes=DELETES, say=say))
        others = [stack.enter_context(opened(other, cache, *NEEDED, say=say)) for other in also]
        tell = work.saying(say)
        for other in others:
            tell = other.saying(tell)
        material = read_material(work, cache, data, others, tell)
        with _alone(work):
            if ray_address is not None:
                resources, data = material.search.resources, material.data
                slots = stack.enter_context(OnSlots(ray_address, resources, data, material.dataset, cache, work, tell))
                material = replace(material, predicts=slots)
            result = _finish(material, changes, train_folds, tell)
            forget(work)
            return result


@contextmanager
def _alone(work: WorkingCopy) -> Iterator[None]:
    """Refuse a second final stage in the same folder: their files would mix in one bundle."""
    lock = Lock(work.folder / LOCK, marker=False)  # a kill leaves a marker, which somebody would have to remove
    try:
        lock.try_acquire()
    except HeldError:
        raise UserError(f"{work.place}: another final stage is at work on this search; wait until it ends") from None
    except NoLockService:
        logger.warning("%s: cannot be locked; make sure that no other final stage works there", work.place)
    except OSError as error:
        raise refused(error, work.folder, option=OUT, doing="the bundle cannot be written") from error
    try:
        with refusing(work.folder, option=OUT, doing="the bundle cannot be written"):
            check_place(work.folder / "bundle")  # now, before hours of work
        yield
    finally:
        lock.release()


def _finish(
    material: Material,
    changes: Mapping[str, Any] | None,
    train_folds: TrainFolds | None,
    say: Callable[[str], None],
) -> MeasuredSearch | None:
    try:
        final = FinalStage.model_validate({**material.search.final.model_dump(), **(changes or {})})
    except ValidationError as error:
        raise explain(error, "the final stage", FinalStage) from None
    say(f"Choosing among {len(material.pool.networks)} candidates on {len(material.pool.rows)} validation images.")
    if train_folds is not None:
        found = _over_folds(material, final, train_folds)
        if found is None:
            return None
        material = replace(material, pool=found)
    if final.tta != "none":
        material = replace(material, pool=under_views(material, _choice(material.pool, final), final.tta, say))
    return _conclude(material, final, say)


def _conclude(material: Material, final: FinalStage, say: Callable[[str], None]) -> MeasuredSearch:
    out, choice = material.out, _choice(material.pool, final)
    ensemble, nested = appraise_pool(material, choice)
    # The best single entry is scored beside the ensemble, whether it is a member or not.
    material.obtain([*np.flatnonzero(ensemble.weights).tolist(), material.pool.best_single])
    with _building(out) as building:
        manifest = _export(material, ensemble, final, building, say)
        # The files themselves are measured, before they replace those of the old bundle.
        measured = measure(material, choice, nested, building, manifest)
        write_card(building, manifest, measured)
        _publish(material.work, building, manifest)
    pool = material.pool
    part = _part(pool)
    write_predictions(material, part, pool.rows, ensemble.rule.probabilities(ensemble.logits(pool.logits)))
    for earlier in {VALIDATION, OUT_OF_FOLD} - {part}:
        predictions_file(out, earlier).unlink(missing_ok=True)
    write_json(out / "result.json", as_json(measured))
    if material.dataset.test_ids:
        _submit(material, manifest)
    try:
        _show(material, manifest, measured)
    except Exception as error:  # all that counts is written
        logger.debug("the ensemble could not be shown", exc_info=True)
        say(f"TensorBoard does not show the ensemble: {message(error) if isinstance(error, OSError) else error}")
    return measured


def _part(pool: Pool) -> str:
    """Return what the rows of a pool are: the validation rows, or all but the test rows if its networks were trained on every fold."""
    return VALIDATION if len(pool.networks[0]) == 1 else OUT_OF_FOLD


def _show(material: Material, manifest: Manifest, measured: MeasuredSearch) -> None:
    """Show the ensemble in TensorBoard, in the run of the whole search: on the test rows, or without any on the validation rows."""
    part = "test" if measured.test else _part(material.pool)
    ids, labels, probabilities = read_predictions(material.out, part)
    found = Predictions(ids, labels, probabilities, manifest.decision_rule.decide(probabilities).labels)
    found = found.only(to_vector(measured.labels))
    written = [*shown(found, LABELS, material.images)]
    if measured.test is not None:
        written.append(of_scalars({RESULT: measured.test.ensemble.value, GAIN: measured.test.difference.value}))
    elif measured.nested is not None:
        written.append(of_scalars({RESULT: measured.nested.macro_f1.value}))
    EventFiles(material.out).write(SEARCH, *written)


@contextmanager
def _building(out: Path) -> Iterator[Path]:
    """Yield the folder for the new bundle, and remove it unless it was published."""
    try:
        yield out / ".bundle"
    finally:
        shutil.rmtree(out / ".bundle", ignore_errors=True)


def _publish(work: WorkingCopy, building: Path, manifest: Manifest) -> None:
    """Replace the old bundle with the new. An object store holds a whole bundle at every moment."""
    with work.alone() as mirror:
        publish(building, work.folder / "bundle")
        if mirror is None:
            return
        mirror.push("bundle/*.safetensors")
        # The new graph overwrites the old file. Until it is there, the manifest must not name a graph: the hash would not fit.
        bare = manifest.model_copy(update={"onnx": None})
        mirror.store.write(f"bundle/{MANIFEST}", bare.model_dump_json(indent=2).encode())
        mirror.push("bundle/*.onnx")
        mirror.push(f"bundle/{MANIFEST}")


def _choice(pool: Pool, final: FinalStage) -> FinalChoice:
    return FinalChoice(
        classes=pool.classes,
        trained=pool.trained,
        ensemble=final.ensemble,
        thresholds=final.thresholds,
        rounds=final.rounds,
        bags=final.bags,
        max_members=final.max_members,
        covers=pool.covers,
    )


def _over_folds(material: Material, final: FinalStage, train_folds: TrainFolds) -> Pool | None:
    """Return the chosen members, trained on every fold, as a pool; None if stopped.

    Its rows are all rows but the test rows.
    """
    pool = material.pool
    weights = _choice(pool, final)(pool.logits, material.labels(pool.rows)).weights
    chosen = pool.only(np.flatnonzero(weights).tolist())
    found = train_folds(material, chosen.candidates)
    if found is None:
        return None
    labels = material.labels(found.rows)
    trained = tuple(sorted({*pool.trained, *np.flatnonzero(labels.any(axis=0)).tolist()}))
    kept = replace(chosen, networks=found.candidates, rows=found.rows, predictor=found.fold, logits=found.logits, trained=trained)
    return best_on_top(kept, labels)


def _export(material: Material, ensemble: Ensemble, final: FinalStage, bundle: Path, say: Callable[[str], None]) -> Manifest:
    """Write the bundle. The networks of an entry share the entry's weight."""
    pool, provenance = material.pool, material.provenance
    members = [
        (network, float(ensemble.weights[entry]) / len(pool.networks[entry]), ensemble.maps[entry])
        for entry in np.flatnonzero(ensemble.weights)
        for network in pool.networks[entry]
    ]
    kept = provenance.model_dump(mode="json", include={"version", "fingerprint", "images", "native_size", "packages"})
    manifest = write_bundle(
        bundle,
        material.search.name,
        members,
        ensemble.rule,
        mean=provenance.mean,
        std=provenance.std,
        provenance={**kept, "external": pool.external, "thresholds": final.thresholds, "ensemble": final.ensemble},
        tta=final.tta,
    )
    return _with_graph(material, manifest, bundle, say) if final.onnx else manifest


def _with_graph(material: Material, manifest: Manifest, bundle: Path, say: Callable[[str], None]) -> Manifest:
    exported = write_onnx(bundle, manifest, material.images.gather(material.split.validation[:CHECKED]))
    if exported.reason:
        say(f"The bundle has no ONNX graph: {exported.reason}")
    return exported.manifest


def _submit(material: Material, manifest: Manifest) -> None:
    ids = material.dataset.test_ids
    probabilities = label(material, material.out / "bundle", manifest, "test", np.arange(len(ids)))
    write_submission(material.out / "submission.csv", ids, manifest.decision_rule.decide(probabilities).labels)
