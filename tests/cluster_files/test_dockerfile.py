"""The image, as far as can be said without building it: what is copied is there and enough for the package and its command."""

import fnmatch
import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from tests.cluster_files.places import DOCKERFILE, ROOT

TEXT = DOCKERFILE.read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def instructions():
    """Return (name, rest) of each instruction, with continued lines joined."""
    lines = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", TEXT, flags=re.MULTILINE)).splitlines()
    return [tuple(line.split(maxsplit=1)) for line in lines if line.strip()]


def given(name):
    return [rest for found, rest in instructions() if found == name]


def copied():
    """Return the sources of all COPY instructions, from the root of the repository."""
    words = [[word for word in shlex.split(rest) if not word.startswith("--")] for rest in given("COPY")]
    return [source for line in words for source in line[:-1]]


def test_what_is_copied_is_there_and_not_ignored():
    ignore = (DOCKERFILE.parent / "Dockerfile.dockerignore").read_text().split()
    assert ignore[0] == "*"
    let_in = [line[1:] for line in ignore if line.startswith("!")]
    assert sorted(let_in) == sorted(copied())
    assert all((ROOT / source).exists() for source in copied())
    assert not any(fnmatch.fnmatch(source, line) for source in let_in for line in ignore[1:] if not line.startswith("!"))


def test_the_base_is_named_exactly_and_fits():
    (base,) = given("FROM")
    image, tag = base.split(":")
    assert image == "python" and "latest" not in TEXT
    version = re.match(r"\d+\.\d+", tag)[0]
    assert version in SpecifierSet(PROJECT["requires-python"])


def test_the_command_is_ours_and_not_roots():
    assert json.loads(given("ENTRYPOINT")[0])[0] in PROJECT["scripts"]
    (user,) = given("USER")
    assert int(user) > 0
    named = [name for name, _ in instructions()]
    assert named.index("USER") > max(index for index, name in enumerate(named) if name in ("RUN", "COPY"))


def test_versions_are_the_tested_ones():
    (install,) = (rest for rest in given("RUN") if "pip install" in rest and "--no-deps" not in rest)
    assert "--constraint constraints.txt" in install


def test_what_is_copied_is_the_whole_package(tmp_path):
    for source in copied():
        copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy
        (tmp_path / source).parent.mkdir(parents=True, exist_ok=True)
        copy(ROOT / source, tmp_path / source)
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        tmp_path / "wheel",
        tmp_path,
    ]
    made = subprocess.run(build, capture_output=True, text=True, timeout=120, check=False)
    assert made.returncode == 0, made.stderr
    (wheel,) = (tmp_path / "wheel").iterdir()
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if name.startswith("hpa_search/")}
        (scripts,) = (name for name in archive.namelist() if name.endswith("entry_points.txt"))
        assert "hpa-search = hpa_search.cli:main" in archive.read(scripts).decode()
    sources = [path for path in (ROOT / "hpa_search").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert held == {path.relative_to(ROOT).as_posix() for path in sources}


def test_hadolint_finds_nothing():
    found = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    if found is None:
        pytest.skip("hadolint is not installed")
    said = subprocess.run([found, DOCKERFILE], capture_output=True, text=True, timeout=60, check=False)
    assert said.returncode == 0, said.stdout
