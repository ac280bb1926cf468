"""A bundle from an untrusted place: pickles are planted wherever one could lie, and nothing of them runs.

A process of its own opens each bundle and predicts with it, under an audit hook that sees every class that an unpickler
looks up, and every file that is opened.
"""

import base64
import hashlib
import json
import pickle
import shutil
import subprocess
import sys

import numpy as np
import onnx
import pytest

from hpa_search.bundle.manifest import MANIFEST
from hpa_search.bundle.parts import chunk_key
from hpa_search.training.device import choose_device

pytestmark = pytest.mark.long

WATCHED = """
import json, pickle, sys, zipfile
from pathlib import Path
from rich.console import Console
from hpa_search.bundle.labelling import predict_folder
from hpa_search.errors import UserError

root = Path(sys.argv[1])
looked_up, opened, watching = [], [], [False]

def watch(event, arguments):
    if watching[0] and event == "pickle.find_class":
        looked_up.append(".".join(map(str, arguments)))
    if watching[0] and event == "open":
        opened.append(str(arguments[0]))

sys.addaudithook(watch)
found = {}
for case in sorted(path for path in root.iterdir() if (path / "bundle").is_dir()):
    looked_up.clear(), opened.clear()
    watching[0] = True
    try:
        predict_folder(
            case / "bundle", root / "images", case / "out.csv", root / "cache", console=Console(quiet=True), probabilities=case / "p.npz"
        )
        outcome = "predicted"
    except UserError as error:
        outcome = str(error)
    watching[0] = False
    found[case.name] = {"outcome": outcome, "looked_up": list(looked_up), "secret": any("secret" in name for name in opened)}

# The hook does see what is unpickled, and what is planted does run.
watching[0] = True
pickle.loads((root / "control.pkl").read_bytes())
watching[0] = False
found["control"] = {"outcome": "", "looked_up": list(looked_up), "secret": False}
print(json.dumps(found))
"""


class Bomb:
    """Unpickled, it makes a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, "w"))


def edit(bundle, **changes):
    path = bundle / MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def members(bundle, **changes):
    return [{**member, **changes} for member in json.loads((bundle / MANIFEST).read_text())["members"]]


def entry(path):
    content = path.read_bytes()
    return {"file": path.name, "sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pixels": 48}


def in_weights(bundle, bomb):
    for member in members(bundle):
        (bundle / member["file"]).write_bytes(bomb)
    edit(bundle, members=members(bundle, sha256=hashlib.sha256(bomb).hexdigest()))


def in_further_files(bundle, bomb):
    for name in ("model.pt", "model.pkl", "bundle.pkl", "pytorch_model.bin", "checkpoint.pt", "__init__.py", "conftest.py"):
        (bundle / name).write_bytes(bomb)


def in_the_graph(bundle, bomb):
    (bundle / "model.onnx").write_bytes(bomb)
    edit(bundle, onnx=entry(bundle / "model.onnx"))


def in_what_the_graph_points_to(bundle, bomb):
    (bundle.parent / "secret").write_bytes(bomb)
    tensor = onnx.TensorProto(name="w", data_type=onnx.TensorProto.FLOAT, dims=[1], data_location=onnx.TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../secret")
    graph = onnx.helper.make_graph([], "g", [], [], [tensor])
    (bundle / "model.onnx").write_bytes(onnx.helper.make_model(graph).SerializeToString())
    edit(bundle, onnx=entry(bundle / "model.onnx"))


def in_the_provenance(bundle, bomb):
    edit(bundle, provenance={"pickle": base64.b64encode(bomb).decode(), "__reduce__": ["os.system", ["true"]]})


def in_the_rule(bundle, bomb):
    edit(bundle, rule={"platt": base64.b64encode(bomb).decode(), "thresholds": bomb.decode("latin-1"), "fill": True})


def in_the_starting_weights(bundle, bomb):
    (bundle / "secret.pt").write_bytes(bomb)
    config = members(bundle)[0]["config"] | {"weights": str(bundle / "secret.pt"), "stem": "mean_rgb"}
    edit(bundle, members=members(bundle, config=config)[:1])
    edit(bundle, members=members(bundle, weight=1.0))


def in_a_backbone_from_elsewhere(bundle, bomb):
    (bundle / "secret").mkdir()
    (bundle / "secret" / "pytorch_model.bin").write_bytes(bomb)
    config = members(bundle)[0]["config"] | {"backbone": f"local-dir:{bundle / 'secret'}"}
    edit(bundle, members=members(bundle, config=config))


def in_parts_of_an_earlier_prediction(bundle, bomb):
    device = choose_device()
    computed = f"{hashlib.sha256((bundle / MANIFEST).read_bytes()).hexdigest()} {device.device.type} {device.dtype}"
    key = chunk_key(computed, bundle.parent.parent / "images", ("a", "b"))
    parts = bundle.parent / ".out.csv.parts"
    parts.mkdir()
    path = parts / f"00000-{key}.npy"
    np.save(path, np.full((2, 28), None, dtype=object))
    path.write_bytes(path.read_bytes().partition(b"\n")[0] + b"\n" + bomb)


PLANTS = {
    in_weights: "its weights do not fit",
    in_further_files: "predicted",
    in_the_graph: "predicted",
    in_what_the_graph_points_to: "predicted",
    in_the_provenance: "predicted",
    in_the_rule: "rule.platt: expected a mapping with slope, offset",
    in_the_starting_weights: "predicted",
    in_a_backbone_from_elsewhere: "timm knows no model",
    in_parts_of_an_earlier_prediction: "predicted",
}


@pytest.fixture
def watched(export, write_images, tmp_path):
    """Plant a pickle in a copy of the bundle for each case, predict with all in a process, and return what it saw."""
    original, _ = export(folder="original")
    root = tmp_path / "root"
    write_images(root / "images", "ab")
    for plant in PLANTS:
        shutil.copytree(original, root / plant.__name__ / "bundle")
        plant(root / plant.__name__ / "bundle", pickle.dumps(Bomb(root / f"owned by {plant.__name__}")))
    (root / "control.pkl").write_bytes(pickle.dumps(Bomb(root / "owned by control")))
    (tmp_path / "watched.py").write_text(WATCHED)
    done = subprocess.run([sys.executable, tmp_path / "watched.py", root], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1]), sorted(path.name for path in root.glob("owned*"))


def test_nothing_that_is_planted_runs(watched):
    found, owned = watched
    assert found.pop("control")["looked_up"] and owned == ["owned by control"]
    assert found.keys() == {plant.__name__ for plant in PLANTS}
    for plant, words in PLANTS.items():
        seen = found[plant.__name__]
        assert words in seen["outcome"], plant.__name__
        assert not seen["looked_up"], f"{plant.__name__}: unpickled {seen['looked_up']}"
        assert not seen["secret"], f"{plant.__name__}: a file that is not the bundle's was opened"
