"""The whole ensemble as one ONNX graph in its bundle, for programs that have neither this package nor PyTorch.

images         uint8 (batch, 4, S, S)    red, green, blue, yellow at the size S of the training data
probabilities  float32 (batch, 28)       calibrated
labels         bool (batch, 28)          what a submission lists
"""

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from hpa_search.bundle.graph import WholeBundle
from hpa_search.bundle.manifest import MANIFEST, Manifest, OnnxFile, sha256
from hpa_search.bundle.onnx_check import DRAWN_FOR, compare, reference, run_graph
from hpa_search.bundle.predict import load_network
from hpa_search.errors import UserError
from hpa_search.files import whole, write_json
from hpa_search.stains import NUM_STAINS

MODEL = "model.onnx"

LARGEST = 2 * 1000**3
"""Bytes of weights: protobuf, which the file is written in, ends at 2^31 bytes."""


@dataclass(frozen=True)
class Exported:
    """What came of an export: the bundle's manifest as it is now, and the largest difference of a probability.

    Where there is no graph, ``reason`` says in one line why, and the bundle is as it was.
    """

    manifest: Manifest
    difference: float | None = None
    reason: str | None = None


def write_onnx(bundle: Path, manifest: Manifest, images: NDArray[np.uint8]) -> Exported:
    """Write model.onnx into ``bundle`` and its manifest, if on ``images`` it says what the bundle says.

    ``images`` are uint8 (n, 4, S, S) with n >= 2 (a few will do), of the training data or like it; the graph will take
    images of S pixels. All crops and views of an image pass through a network at once: with eight views of four crops of
    384 pixels onnxruntime takes 1.3 GB an image, so that small batches are best.
    Raises ValueError for other images, and UserError where the bundle's own weights do not fit. Whatever else fails is
    the reason of the result: a bundle is whole without a graph.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or len(images) < 2 or images.shape[2] != images.shape[3]:
        raise ValueError(f"images are {images.dtype} {images.shape}; expected uint8 (n, {NUM_STAINS}, S, S) with n >= 2")
    if (size := sum((bundle / member.file).stat().st_size for member in manifest.members)) > LARGEST:
        return Exported(manifest, reason=f"its weights take {size / 1e9:.1f} GB, and one file can hold {LARGEST / 1e9:.0f} GB")
    networks = [load_network(member.config, bundle / member.file, manifest.mean, manifest.std) for member in manifest.members]
    expected = reference(manifest, networks, images)
    try:
        with whole(bundle / MODEL) as path:
            onnx.save(draw(manifest, WholeBundle(manifest, networks, images.shape[-1])), path)
            difference = compare(manifest.decision_rule, expected, *run_graph(path, images))
    except Exception as error:  # torch's exporter and onnxruntime fail in as many ways as there are networks
        return Exported(manifest, reason=_reason(error))
    return Exported(_with_graph(bundle, manifest, images.shape[-1]), difference)


def draw(manifest: Manifest, module: WholeBundle) -> onnx.ModelProto:
    """Return ``module`` as an ONNX model with weights inside, any number of images a batch, and nothing of this machine.

    Its metadata name the bundle, the labels in their order, and the thresholds. Raises what torch's exporter raises.
    """
    example = torch.zeros(DRAWN_FOR, len(manifest.channels), module.native, module.native, dtype=torch.uint8)
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            module.eval(),
            (example,),
            input_names=["images"],
            output_names=["probabilities", "labels"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    _strip(model)
    rule = manifest.decision_rule
    named = {"bundle": manifest.name, "labels": list(manifest.labels), "thresholds": rule.thresholds.tolist()}
    onnx.helper.set_model_props(
        model, {name: value if isinstance(value, str) else json.dumps(value) for name, value in named.items()}
    )
    return model


def _strip(message: Any) -> None:
    """Take every note of the exporter from a protobuf message: they hold source lines, paths and traces of the program that was exported."""
    for field in ("metadata_props", "doc_string"):
        if field in message.DESCRIPTOR.fields_by_name:
            message.ClearField(field)
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            for part in value if field.is_repeated else (value,):
                _strip(part)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's warnings, which are about its own making, from the screen."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())[:300] or type(error).__name__
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"


def _with_graph(bundle: Path, manifest: Manifest, pixels: int) -> Manifest:
    path = bundle / MODEL
    entry = OnnxFile(file=MODEL, sha256=sha256(path), size=path.stat().st_size, pixels=pixels)
    named = manifest.model_copy(update={"onnx": entry})
    write_json(bundle / MANIFEST, named.model_dump(mode="json"))
    return named
