"""The whole ensemble as one ONNX graph in its bundle, for programs without this package and PyTorch.

images         uint8 (batch, 4, S, S)    red, green, blue, yellow at the size S of the training data
probabilities  float32 (batch, 28)       calibrated
labels         bool (batch, 28)          as a submission lists them
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
from hpa_search.bundle.predict import load_network, member_files
from hpa_search.errors import UserError
from hpa_search.files import whole, write_json
from hpa_search.stains import NUM_STAINS

MODEL = "model.onnx"

LARGEST = 2 * 1000**3
"""The most bytes of weights: a protobuf file ends at 2^31 bytes."""


@dataclass(frozen=True)
class Exported:
    """The result of an export: the new manifest, and the largest difference of a probability.

    Without a graph, ``reason`` says why in one line, and the bundle is unchanged.
    """

    manifest: Manifest
    difference: float | None = None
    reason: str | None = None


def write_onnx(bundle: Path, manifest: Manifest, images: NDArray[np.uint8]) -> Exported:
    """Write model.onnx into ``bundle`` and name it in the manifest, if both agree on ``images``.

    ``images`` are uint8 (n, 4, S, S) with n >= 2, of the training data or like it. A few are enough. The graph will take
    images of S pixels. All crops and views of an image pass through a network at once. With eight views of four crops of 384
    pixels onnxruntime takes 1.3 GB an image. Small batches are best.
    Raises ValueError for other images, and UserError if the bundle's weights do not fit their networks. Every other failure
    becomes the result's reason, because a bundle is whole without a graph.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or len(images) < 2 or images.shape[2] != images.shape[3]:
        raise ValueError(f"images are {images.dtype} {images.shape}; expected uint8 (n, {NUM_STAINS}, S, S) with n >= 2")
    if (size := sum((bundle / member.file).stat().st_size for member in manifest.members)) > LARGEST:
        return Exported(manifest, reason=f"its weights take {size / 1e9:.1f} GB, and one file can hold {LARGEST / 1e9:.0f} GB")
    networks = [load_network(file) for file in member_files(bundle, manifest)]
    expected = reference(manifest, networks, images)
    try:
        with whole(bundle / MODEL) as path:
            onnx.save(draw(manifest, WholeBundle(manifest, networks, images.shape[-1])), path)
            difference = compare(manifest.decision_rule, expected, *run_graph(path, images))
    except Exception as error:  # torch's exporter and onnxruntime fail in as many ways as there are networks
        return Exported(manifest, reason=_reason(error))
    return Exported(_with_graph(bundle, manifest, images.shape[-1]), difference)


def draw(manifest: Manifest, module: WholeBundle) -> onnx.ModelProto:
    """Return ``module`` as an ONNX model with its weights inside, for any number of images a batch.

    Its metadata name the bundle, the labels in their order, and the thresholds. Nothing in it describes this machine. Raises
    what torch's exporter raises.
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
    """Remove the exporter's notes from a protobuf message.

    They hold source lines, paths and traces of this program.
    """
    for field in ("metadata_props", "doc_string"):
        if field in message.DESCRIPTOR.fields_by_name:
            message.ClearField(field)
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            for part in value if field.is_repeated else (value,):
                _strip(part)


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide the exporter's warnings, which are about its own code."""
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
