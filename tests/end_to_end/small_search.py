"""A search of the command line on a small phantom: its files, its command, and its environment."""

import os
import sys
from pathlib import Path

from hpa_search.phantom.dataset import make_phantom

HPA = str(Path(sys.executable).with_name("hpa-search"))

SPACE = """
name: small
seed: 1
fixed: {{full_size: 64, small_size: 32, batch_size: 16, backbone: test_resnet, resolution: downsize, channels: rgb, loss: bce, augment: none}}
space:
  learning_rate: {{log_range: [1.0e-3, 1.0e-2]}}
objective: {{metric: macro_ap, min_positives: 1}}
split: {{train: 0.6, validation: 0.2, test: 0.2, seed: 0}}
budget: {{trials: {trials}}}
scheduler: {{kind: none, max_epochs: {epochs}}}
resources: {{slots: 1, cpus: 1, gpus: 0}}
final: {{members: 1, max_members: 1, rounds: 2, bags: 1, onnx: false}}
"""


def make_files(folder: Path, *, trials: int = 2, epochs: int = 1) -> None:
    """Make ``folder``/data and ``folder``/space.yaml."""
    make_phantom(folder / "data", images=80, size=64, seed=3, lift=3, test_images=6, workers=1)
    (folder / "space.yaml").write_text(SPACE.format(trials=trials, epochs=epochs))


def run_command(folder: Path, out: Path) -> list[str]:
    return [
        HPA,
        "run",
        str(folder / "space.yaml"),
        "--data",
        str(folder / "data"),
        "--out",
        str(out),
        "--cache",
        str(folder / "cache"),
    ]


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", **more}
