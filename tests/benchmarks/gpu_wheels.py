"""Gathers the wheels that a machine with a GPU lacks to run this software: one that cannot reach a package index.

    python tests/benchmarks/gpu_wheels.py FOLDER [--needed pydantic] [--python 3.12] [--has torch,timm,...]

The machine is x86-64 Linux with the packages of --has and all that these need. What this software needs beyond them, in the
versions of constraints.txt, is downloaded into FOLDER; with --needed, only these packages and what they need. `gpu.py` needs the
one named above, 3 MiB. Wheels of more than 60 MiB are cut into parts. There, in FOLDER:

    for first in *.part00; do cat "${first%.part00}".part?? > "${first%.part00}"; done
    python3 -m pip install --no-index --no-deps --target /tmp/site *.whl
    PYTHONPATH=/tmp/site python3 tests/benchmarks/gpu.py
"""

import argparse
import json
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
HAS = "torch,torchvision,timm,numpy,scipy,pandas,scikit-learn,tensorboard,onnx,onnxruntime,onnxscript,pillow,matplotlib,psutil,pytest,rich"
PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in range(17, 36)] + ["manylinux2014_x86_64", "manylinux1_x86_64"]
MOST_BYTES = 60 * 2**20


def pip_options(python: str) -> list[str]:
    """Return pip's options for a machine that is not this one."""
    platforms = [part for platform in PLATFORMS for part in ("--platform", platform)]
    return ["--only-binary", ":all:", "--implementation", "cp", "--python-version", python, *platforms]


def resolve(python: str) -> dict[str, dict[str, Any]]:
    """Return the metadata of all packages that this software needs there, by name."""
    with tempfile.TemporaryDirectory() as folder:
        report, target, needed = (Path(folder) / name for name in ("report.json", "target", "needed.txt"))
        needed.write_text("\n".join(requirements()))
        constraints = ["--constraint", str(ROOT / "constraints.txt"), "--requirement", str(needed)]
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--report", str(report)]
        subprocess.run([*command, "--target", str(target), *pip_options(python), *constraints], check=True)
        found = json.loads(report.read_text())["install"]
    return {canonicalize_name(one["metadata"]["name"]): one["metadata"] for one in found}


def requirements() -> list[str]:
    """Return what pyproject.toml names."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    listed: list[str] = project["dependencies"]
    return listed


def closure(names: list[str], packages: dict[str, dict[str, Any]], python: str) -> set[str]:
    """Return ``names`` and all that they need of ``packages``."""
    seen, to_see = set[str](), [(canonicalize_name(name), frozenset[str]()) for name in names]
    visited = set[tuple[str, frozenset[str]]]()
    while to_see:
        name, extras = to_see.pop()
        if name not in packages or (name, extras) in visited:
            continue
        seen.add(name)
        visited.add((name, extras))
        environment = {"python_version": python, "python_full_version": f"{python}.0"}
        for line in packages[name].get("requires_dist", []):
            needed = Requirement(line)
            if needed.marker is None or any(needed.marker.evaluate({**environment, "extra": extra}) for extra in (*extras, "")):
                to_see.append((canonicalize_name(needed.name), frozenset(needed.extras)))
    return seen


def cut(wheel: Path) -> None:
    """Replace a large wheel by its parts."""
    content = wheel.read_bytes()
    for number, start in enumerate(range(0, len(content), MOST_BYTES)):
        wheel.with_name(f"{wheel.name}.part{number:02d}").write_bytes(content[start : start + MOST_BYTES])
    wheel.unlink()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--python", default="3.12")
    parser.add_argument("--has", default=HAS)
    parser.add_argument("--needed")
    options = parser.parse_args()
    packages = resolve(options.python)
    needed = closure(options.needed.split(","), packages, options.python) if options.needed else packages.keys()
    lacking = sorted(needed - closure(options.has.split(","), packages, options.python))
    wanted = [f"{name}=={packages[name]['version']}" for name in lacking]
    options.folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(options.folder)]
    subprocess.run([*command, *pip_options(options.python), *wanted], check=True)
    for wheel in sorted(options.folder.glob("*.whl")):
        if wheel.stat().st_size > MOST_BYTES:
            cut(wheel)
    files = sorted(options.folder.iterdir())
    print("\n".join(f"{file.stat().st_size / 2**20:7.1f} MiB  {file.name}" for file in files))
    print(f"{sum(file.stat().st_size for file in files) / 2**20:.0f} MiB in {len(files)} files of {len(lacking)} packages")


if __name__ == "__main__":
    main()
