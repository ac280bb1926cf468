"""Files of weights: their format and their tensors.

The first bytes decide the format, not the ending. Reading a file never runs code. An object that would need code is refused,
with the name of its class.
"""

import json
import pickle
import re
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
import torch
from torch import Tensor

from hpa_search.errors import UserError
from hpa_search.kinds import AGAIN, START, Kind, kind_of_bytes
from hpa_search.models.create import cause
from hpa_search.models.matching import Shapes
from hpa_search.models.state_dicts import find_state

Format = Literal["safetensors", "torch"]

GIVE = "give a file that torch.save or safetensors wrote"
_LARGEST_HEADER = 100_000_000
"""The most bytes that safetensors allows for names and shapes."""
_OLD_TORCH = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"
"""The magic number of torch.save before version 1.6, which introduced zip archives."""
_OUTSIDER = re.compile(r"GLOBAL (\S+) was not an allowed global")
_REASON = re.compile(r"WeightsUnpickler error:\s*(.*?)(?:\.?\s*(?:Please use|Check the doc|$))", re.DOTALL)
_MODULES = ("torch.nn.modules.", "timm.models.", "torchvision.models.")
_SHOWN = 5


def format_of(path: Path) -> Format:
    """Return the format of the file ``path``. Raises UserError if it is not a file of weights, or is cut short."""
    with _as_user_error(path):
        with path.open("rb") as file:
            start = file.read(START)
        found = _of_zip(path) if start[:2] == b"PK" else _of_start(start, path)
    if isinstance(found, Kind):
        raise UserError(f"weights: {path} cannot be read as weights: it is {found.what}; {found.remedy or GIVE}")
    return found


def read_shapes(path: Path) -> Shapes:
    """Return the names and shapes of the tensors in a file, in order. Raises UserError as `read_tensors` does."""
    if format_of(path) == "torch":
        return {name: tuple(tensor.shape) for name, tensor in read_tensors(path).items()}
    with _as_user_error(path), safetensors.safe_open(path, framework="pt") as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118  # no mapping


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file, by name; `state_dicts` finds the model in a checkpoint.

    Raises UserError if the file does not hold weights, is damaged, or would run code when loaded.
    """
    if format_of(path) == "safetensors":
        with _as_user_error(path):
            return safetensors.torch.load_file(path)
    with _as_user_error(path):
        content = _unpickled(path)
    try:
        return find_state(content)
    except ValueError as error:
        raise UserError(f"weights: {path} {error}") from None


def _unpickled(path: Path) -> Any:
    try:
        if path.suffix != ".safetensors":  # torch.load trusts this ending, which may be wrong
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except RuntimeError:  # the file is older than torch 1.6, or damaged: the second attempt decides
        pass
    with path.open("rb") as file:
        return torch.load(file, map_location="cpu", weights_only=True)


@contextmanager
def _as_user_error(path: Path) -> Iterator[None]:
    """Turn the errors of the libraries for an unreadable file into a UserError."""
    try:
        yield
    except UserError:
        raise
    except pickle.UnpicklingError as error:
        raise UserError(f"weights: {path} {_outsiders(path, str(error))}") from None
    except OSError as error:
        raise UserError(f"weights: {path} cannot be read: {cause(error)}") from None
    except Exception as error:  # a damaged pickle may raise anything
        raise UserError(f"weights: {path} cannot be read: it is damaged or cut short ({cause(error)}); {AGAIN}") from None


def _outsiders(path: Path, message: str) -> str:
    """Return a message with the objects in a file that need code; ``message`` is torch's own."""
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # the file is older than torch 1.6, or damaged
        names = _OUTSIDER.findall(message)
    if not names:
        reason = " ".join((_REASON.search(message) or re.match("(.*)", message))[1].split())[:200]  # type: ignore[index]
        return f"cannot be read as weights alone ({reason}); save the model's state_dict() with torch.save"
    names = sorted(set(names), key=lambda name: (name.startswith("torch."), name))  # torch's names say less than the user's own
    whole = "a whole model, " if any(name.startswith(_MODULES) for name in names) else ""
    return (
        f"holds more than weights: {whole}{_listed(names)}. Loading such objects may run code: if you trust the file, load it "
        "with torch.load(..., weights_only=False), and save the model's state_dict() alone"
    )


def _listed(names: Iterable[str]) -> str:
    shown = ["".join(mark if mark.isprintable() else "?" for mark in name)[:80] for name in names]
    return ", ".join(shown[:_SHOWN]) + (f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else "")


def _of_start(start: bytes, path: Path) -> Format | Kind:
    """Return the format of a file that is not a zip archive."""
    length = int.from_bytes(start[:8], "little")
    if start[8:9] == b"{" and length <= _LARGEST_HEADER:
        return _cut_short(path, length) or "safetensors"
    if _OLD_TORCH in start[:64]:
        return "torch"
    if start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return Kind(
            "a Python pickle that torch.save did not write", "if you trust it, load it, and save the weights with torch.save"
        )
    return (
        _of_other_program(start)
        or kind_of_bytes(start)
        or Kind(f"of an unknown format (it begins with 0x{start[:8].hex()})", f"{AGAIN}, or {GIVE}")
    )


def _of_other_program(start: bytes) -> Kind | None:
    if start.startswith(b"\x08\x01\x12") or re.match(rb"\n.{1,3}\n.[\w./:-]{2,}\x12", start, re.DOTALL):
        return Kind("a model of TensorFlow")
    if start[:1] == b"\x08" and start[1:2] < b"\x20" and start[2:3] in (b"\x12", b"\x1a", b":", b"B"):
        return Kind("an ONNX or Core ML model")
    if b'"weight_map"' in start:
        return Kind("the index of weights that lie in several files", "load them all, and save them as one file")
    if start[4:8] == b"TFL3":
        return Kind("a model of TensorFlow Lite")
    return Kind("a GGUF model") if start.startswith(b"GGUF") else None


def _cut_short(path: Path, length: int) -> Kind | None:
    """Return a fault if a safetensors file, with a header of ``length`` bytes, is cut short."""
    size = path.stat().st_size
    whole = 8 + length
    if whole <= size:
        with path.open("rb") as file:
            header = json.loads(file.read(whole)[8:])
        whole += max((entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"), default=0)
    return Kind(f"a safetensors file that is cut short ({size:,} of {whole:,} bytes)", AGAIN) if whole > size else None


def _of_zip(path: Path) -> Format | Kind:
    """Return the format of a zip archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        size = f"{path.stat().st_size:,} bytes"
        return Kind(f"a zip archive, as torch.save writes, that is cut short: its end is missing ({size} are here)", AGAIN)
    last = {name.rsplit("/", 1)[-1] for name in names}
    if "data.pkl" in last and "constants.pkl" not in last:
        return "torch"
    if "data.pkl" in last:
        return Kind(
            "a TorchScript archive", "if you trust it, load it with torch.jit.load, and save its state_dict() with torch.save"
        )
    if "archive_format" in last or any(name.startswith("serialized_exported_program") for name in last):
        return Kind(
            "a program that torch.export saved", "load it with torch.export.load, and save its state_dict with torch.save"
        )
    if "model.weights.h5" in last:
        return Kind("a Keras model")
    if names and all(name.endswith(".npy") for name in names):
        return Kind("a NumPy .npz archive")
    inside = f" with {_listed(names)} in it" if names else " with nothing in it"
    return Kind(f"a zip archive{inside}", "unpack it, and give the file of weights in it")
