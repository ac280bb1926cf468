"""Files of weights as people have them: pointers, pages, archives, whole models, and what other programs write."""

import argparse
import gzip
import io
import pathlib
import pickle
import tarfile
import zipfile

import numpy as np
import pytest
import safetensors.torch
import timm
import torch

from hpa_search.config import TrialConfig
from hpa_search.errors import UserError
from hpa_search.models.weights import check_weights, pretrained_state
from hpa_search.models.weights_file import format_of, read_shapes, read_tensors

STATE = {"conv.weight": torch.ones(2, 3, 1, 1), "conv.bias": torch.zeros(2)}
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4665b3\nsize 46830571\n"


class Planted:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return exec, ("raise SystemExit('unpickled')",)


def saved(content, **options):
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


def old(content):
    return saved(content, _use_new_zipfile_serialization=False)


def zipped(**members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/"), content)
    return file.getvalue()


def tarred():
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a.pth"))
    return file.getvalue()


def arrays(save):
    file = io.BytesIO()
    save(file)
    return file.getvalue()


def scripted():
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), file)
    return file.getvalue()


SAFE = safetensors.torch.save(STATE)
FILES = {
    "a pointer": (POINTER, r"it is a Git LFS pointer .it begins with 'version https://git-lfs.*run `git lfs pull`"),
    "an annexed file": (b"/annex/objects/SHA256E-s4--46.pth\n", "git-annex pointer.*git annex get"),
    "a page": (b"<!DOCTYPE html><title>Virus scan warning</title>", "a web page .'Virus scan warning'.*download the file itself"),
    "an XML error": (b"<?xml version='1.0'?><Error><Code>AccessDenied", "XML text.*download the file itself"),
    "a JSON error": (b'{"error":"Invalid username or password."}', "JSON text that begins with .*Invalid username"),
    "an error in words": (b"Entry not found", "text that begins with 'Entry not found'"),
    "an index": (b'{"metadata": {}, "weight_map": {"conv.weight": "model-1.safetensors"}}', "weights that lie in several files"),
    "empty": (b"", "empty; download or copy it again"),
    "zeros": (bytes(10_000), "zero bytes"),
    "noise": (b"\x7f" + np.random.default_rng(0).bytes(100_000), "it begins with 0x7f.*torch.save or safetensors"),
    "cut zip": (saved(STATE)[:-200], "zip archive.*cut short: its end is missing.*download or copy it again"),
    "cut zip at half": (saved(STATE)[:700], "cut short: its end is missing"),
    "cut safetensors": (SAFE[:-4], f"cut short .{len(SAFE) - 4} of {len(SAFE)} bytes.; download or copy it again"),
    "cut safetensors header": (SAFE[:40], "cut short .40 of .* bytes"),
    "cut old file": (old(STATE)[:-8], "damaged or cut short"),
    "cut old file at its start": (old(STATE)[:60], "damaged or cut short"),
    "gzip": (gzip.compress(SAFE), "a gzip archive; unpack it"),
    "tar": (tarred(), "a tar archive; unpack it"),
    "7z": (b"7z\xbc\xaf\x27\x1c\x00\x04", "a 7z archive; unpack it"),
    "xz": (b"\xfd7zXZ\x00\x00", "an xz archive; unpack it"),
    "zip": (zipped(readme="x", best__model="y"), "a zip archive with readme, best/model in it; unpack it"),
    "HDF5": (b"\x89HDF\r\n\x1a\n\x00", "an HDF5 file, as Keras.*torch.save or safetensors"),
    "Keras": (zipped(**{"config.json": "{}", "model.weights.h5": ""}), "a Keras model"),
    "TensorFlow": (b"\x08\x01\x12\xff\x0a", "a model of TensorFlow"),
    "TensorFlow graph": (b"\x0a\x2b\x0a\x05input\x12\x0bPlaceholder", "a model of TensorFlow"),
    "TensorFlow Lite": (b"\x1c\x00\x00\x00TFL3\x14", "a model of TensorFlow Lite"),
    "ONNX": (b"\x08\x08\x12\x07pytorch\x1a\x052.1.0", "an ONNX or Core ML model"),
    "npy": (arrays(lambda file: np.save(file, np.ones(3))), "a NumPy .npy file"),
    "npz": (arrays(lambda file: np.savez(file, a=np.ones(3))), "a NumPy .npz archive"),
    "TorchScript": (scripted(), "a TorchScript archive; if you trust it, load it with torch.jit.load"),
    "plain pickle": (pickle.dumps({"a": np.ones(3)}), "a Python pickle that torch.save did not write"),
    "PNG": (b"\x89PNG\r\n\x1a\n\x00", "a PNG image"),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_a_file_without_weights_is_refused_with_its_format(tmp_path, name, ending):
    content, message = FILES[name]
    path = tmp_path / f"weights{ending}"
    path.write_bytes(content)
    for read in (read_shapes, read_tensors):
        with pytest.raises(UserError, match=f"^weights: .*weights{ending} cannot be read.*{message}") as caught:
            read(path)
        assert "\n" not in str(caught.value) and "program" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (torch.nn.Linear(2, 2), "torch.nn.modules.linear.Linear"),
        ({"state_dict": STATE, "args": argparse.Namespace(lr=0.1)}, "argparse.Namespace"),
        ({"state_dict": STATE, "best": np.float64(0.5)}, "scalar.*numpy.dtype"),
        ({"state_dict": STATE, "path": pathlib.PurePosixPath("a")}, "pathlib.PurePosixPath"),
        ({"state_dict": STATE, "planted": Planted()}, "builtins.exec"),
    ],
)
@pytest.mark.parametrize(("save", "ending"), [(saved, ".pth"), (old, ".pth"), (saved, ".safetensors")])
def test_what_would_be_run_is_named_and_not_run(tmp_path, save, ending, content, names):
    path = tmp_path / f"model{ending}"
    path.write_bytes(save(content))
    with pytest.raises(UserError) as caught:
        read_tensors(path)
    message = str(caught.value)
    assert message.startswith(f"weights: {path} holds more than weights: ")
    assert any(name.split(".")[-1] in message for name in names.split("*"))
    assert "if you trust the file" in message and "state_dict() alone" in message and "program" not in message


def test_a_pickle_of_a_newer_protocol_is_refused_with_what_to_do(tmp_path):
    (tmp_path / "new.pth").write_bytes(saved(STATE, pickle_protocol=4))
    with pytest.raises(UserError, match=r"cannot be read as weights alone .*; save the model's state_dict\(\) with torch.save"):
        read_tensors(tmp_path / "new.pth")


@pytest.mark.parametrize("ending", [".pth", ".pt", ".bin", ".safetensors", ""])
@pytest.mark.parametrize(("content", "found"), [(SAFE, "safetensors"), (saved(STATE), "torch"), (old(STATE), "torch")])
def test_a_file_is_read_as_what_it_is_whatever_its_ending(tmp_path, ending, content, found):
    path = tmp_path / f"weights{ending}"
    path.write_bytes(content)
    assert format_of(path) == found
    assert read_shapes(path) == {name: tuple(tensor.shape) for name, tensor in STATE.items()}
    torch.testing.assert_close(read_tensors(path), STATE, rtol=0, atol=0)


def test_real_weights_are_taken_under_the_other_ending(tmp_path):
    state = timm.create_model("test_convnext").state_dict()
    safetensors.torch.save_file(state, tmp_path / "a.pth")
    torch.save({"epoch": 1, "net": state}, tmp_path / "a.safetensors")
    for name in ("a.pth", "a.safetensors"):
        config = TrialConfig(backbone="test_convnext", weights=str(tmp_path / name))
        check_weights(config)
        torch.testing.assert_close(pretrained_state(config)["stem.0.weight"], state["stem.0.weight"], rtol=0, atol=0)


def test_any_cut_and_any_flip_is_read_or_refused_in_one_message(tmp_path):
    path = tmp_path / "weights.pth"
    random = np.random.default_rng(0)
    for whole in (saved(STATE), old(STATE), SAFE):
        for place in random.integers(0, len(whole), 60).tolist():
            changed = bytearray(whole)
            changed[place] ^= 1 << int(random.integers(0, 8))
            for content in (bytes(changed), whole[:place]):
                path.write_bytes(content)
                try:
                    read_tensors(path)
                except UserError as error:
                    assert str(error).startswith(f"weights: {path} ") and "\n" not in str(error)


def test_a_path_that_is_not_a_file_is_refused(tmp_path):
    (tmp_path / "link.pth").symlink_to("nowhere")
    for name, message in (
        ("link.pth", "there is no file .*link.pth on this machine; the path is a broken link"),
        ("", "is not a file; give the file in this folder"),
        ("x" * 300, "the file cannot be read: the name is too long"),
    ):
        with pytest.raises(UserError, match=message):
            check_weights(TrialConfig(backbone="test_resnet", weights=str(tmp_path / name)))
