"""The command line as a user meets it: every error is one message and exit code 2, and nothing in OUT is lost."""

import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from hpa_search.cli import main
from hpa_search.cli.options import CACHE, FOLDER, GIVEN, PLACE, told
from hpa_search.data.kaggle import read_dataset
from hpa_search.data.packed import pack
from hpa_search.errors import UserError
from hpa_search.files import TEMPORARY
from hpa_search.ledger import lease
from hpa_search.ledger.ledger import Ledger
from hpa_search.phantom.dataset import make_phantom
from hpa_search.search.workspace import Inputs, prepare
from hpa_search.space.parsing import parse_search

SPACE = "name: toy\nseed: 3\nfixed: {small_size: 32, full_size: 32}\nbudget: {trials: 2}\n"

ONE_BY_ONE = """
import contextlib, io, json, sys
from hpa_search.cli import main
for arguments in json.loads(sys.stdin.read()):
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            main(arguments)
    except SystemExit as end:
        print(json.dumps([end.code, said.getvalue()]), flush=True)
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantom") / "data"
    make_phantom(folder, images=48, size=32, seed=1, test_images=2, workers=1)
    return folder


@pytest.fixture
def hpa(tmp_path):
    """Run a command in this process; it has to fail with exit code 2 and one message, which is returned."""

    def run(*arguments) -> str:
        result = CliRunner().invoke(main, [*map(str, arguments), "--cache", str(tmp_path / "cache")][: _uncached(arguments)])
        return refused(result.exit_code, result.output)

    return run


def _uncached(arguments) -> int | None:
    """Only some commands know of the cache."""
    return None if arguments[0] in ("run", "finish", "predict") or arguments[1] == "check" else -2


def refused(code, output) -> str:
    assert code == 2, output
    assert "Traceback" not in output
    assert output.count("Error: ") == 1
    return output


@pytest.fixture
def space(tmp_path):
    (tmp_path / "toy.yaml").write_text(SPACE)
    return tmp_path / "toy.yaml"


@pytest.fixture
def out(data, tmp_path):
    """An OUT that is ready for the search of SPACE and has a ledger."""
    dataset = read_dataset(data)
    images = pack(dataset.train_folder, dataset.ids, tmp_path / "cache")
    prepare(tmp_path / "out", parse_search(SPACE, "toy.yaml"), SPACE, Inputs(dataset, images), tmp_path / "cache", str)
    Ledger.create(tmp_path / "out", "toy")
    return tmp_path / "out"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_options_are_these_and_no_hyperparameter_is_among_them():
    def options(command, path=()):
        for name, inner in sorted(getattr(command, "commands", {}).items()):
            yield from options(inner, (*path, name))
        if path and not hasattr(command, "commands"):
            yield " ".join(path), sorted(option for parameter in command.params for option in parameter.opts)

    assert dict(options(main)) == {
        "data check": ["--cache", "--sheet", "folder"],
        "data phantom": ["--images", "--lift", "--seed", "--size", "--test-images", "folder"],
        "compare": ["--by", "--data", "out"],
        "plan": ["--cache", "--data", "--out", "--slots", "space"],
        "report": ["--cache", "--data", "--markdown", "--to", "out"],
        "finish": [
            "--also",
            "--cache",
            "--data",
            "--ensemble",
            "--folds",
            "--max-members",
            "--onnx",
            "--ray",
            "--thresholds",
            "--tta",
            "out",
        ],
        "ensemble": [
            "--apply",
            "--ensemble",
            "--logits",
            "--max-members",
            "--out",
            "--predictions",
            "--probabilities",
            "--thresholds",
        ],
        "predict": ["--cache", "--list", "--out", "--probabilities", "bundle", "images"],
        "extend": ["--address", "--epochs", "--hours", "--trials", "target"],
        "list": ["--address", "--json"],
        "logs": ["--address", "--follow", "job"],
        "pause": ["--address", "--coming", "--wait", "target"],
        "resume": ["--address", "--cache", "--data", "--external", "--ray", "target"],
        "run": ["--cache", "--data", "--external", "--out", "--ray", "--study", "space"],
        "status": ["--address", "--json", "--watch", "target"],
        "stop": ["--address", "--coming", "--wait", "target"],
        "submit": ["--address", "--cache", "--data", "--external", "--out", "--study", "space"],
        "tensorboard": ["--cache", "--port", "out"],
    }


def test_help_is_there_at_once():
    program = (
        "import sys; from click.testing import CliRunner; from hpa_search.cli import main\n"
        "assert CliRunner().invoke(main, ['--help']).exit_code == 0\n"
        "assert CliRunner().invoke(main, ['run', '--help']).exit_code == 0\n"
        "print([name for name in ('torch', 'ray', 'optuna', 'timm', 'pandas', 'sklearn') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_missing_folders_and_files_in_their_place(hpa, space, data, tmp_path):
    file, missing = tmp_path / "file", tmp_path / "missing"
    file.write_text("mine")
    for path in (file, missing):
        assert str(path) in hpa("run", space, "--data", path, "--out", tmp_path / "o")
        assert str(path) in hpa("data", "check", path)
        assert str(path) in hpa("status", path)
        assert str(path) in hpa("status", path, "--json")
        assert str(path) in hpa("finish", path)
        assert str(path) in hpa("tensorboard", path)
        assert str(path) in hpa("predict", path, data)
    assert "the search-space file cannot be read: it is not there" in hpa("run", missing, "--data", data, "--out", tmp_path / "o")
    assert "is not a file" in hpa("run", tmp_path, "--data", data, "--out", tmp_path / "o")
    assert not (tmp_path / "o").exists()
    assert file.read_text() == "mine"


def test_places_that_cannot_be_written(hpa, space, data, tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    assert "is a file" in hpa("run", space, "--data", data, "--out", file)
    for place in (file / "below", Path("/proc/below")):
        assert str(place) in hpa("run", space, "--data", data, "--out", place)
        assert str(place) in hpa("data", "phantom", place, "--images", 3, "--size", 32)
    assert "file" in hpa("data", "check", data, "--sheet", file / "sheet.png")
    assert "not an empty folder" in hpa("data", "phantom", file)
    assert "not an empty folder" in hpa("data", "phantom", data)
    assert file.read_text() == "mine"


def test_a_cache_that_cannot_be_written(space, data, tmp_path):
    (tmp_path / "file").touch()
    arguments = ["run", space, "--data", data, "--out", tmp_path / "o", "--cache", tmp_path / "file" / "cache"]
    result = CliRunner().invoke(main, list(map(str, arguments)))
    assert "image cache cannot be written" in refused(result.exit_code, result.output)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--images", 0], "ask for 1 to"),
        (["--size", 31], "must be from 32"),
        (["--seed", -1], "seed -1"),
        (["--lift", 10_000], "lift 10000"),
        (["--images", "many"], "not a valid integer"),
        (["--test-images", -1], "-1 test images"),
    ],
)
def test_a_phantom_that_cannot_be(hpa, tmp_path, arguments, words):
    assert words in hpa("data", "phantom", tmp_path / "new", *arguments)
    assert not (tmp_path / "new").exists()


def test_an_out_that_holds_another_search_is_refused_and_kept(hpa, out, space, data):
    before = contents(out)
    space.write_text(SPACE.replace("seed: 3", "seed: 4"))
    assert "holds another search: seed differ" in hpa("run", space, "--data", data, "--out", out)
    assert contents(out) == before


def test_an_out_that_holds_foreign_files_is_refused_and_kept(hpa, space, data, tmp_path):
    thesis = tmp_path / "thesis"
    thesis.mkdir()
    (thesis / "chapter1.tex").write_text("mine")
    (thesis / "search.yaml").write_text("also mine")
    assert "files that are not a search's" in hpa("run", space, "--data", data, "--out", thesis)
    assert contents(thesis) == {"chapter1.tex": b"mine", "search.yaml": b"also mine"}
    before = contents(data)
    assert "files that are not a search's" in hpa("run", space, "--data", data, "--out", data)
    assert contents(data) == before


def test_a_search_without_an_epoch_cannot_be_finished_and_stays(hpa, out):
    before = contents(out)
    assert "no trial has finished an epoch" in hpa("finish", out)
    assert contents(out) == before
    assert "not a folder" in hpa("finish", out, "--data", out / "missing")
    assert "nothing to show" in hpa("tensorboard", out)
    assert "--port" in hpa("tensorboard", out, "--port", 99999)


def test_the_status_of_a_search_that_has_not_begun(out):
    result = CliRunner().invoke(main, ["status", str(out), "--json"])
    assert (result.exit_code, json.loads(result.output)["trials"]) == (0, [])


def test_a_search_is_extended_by_what_limits_it(hpa, out):
    result = CliRunner().invoke(main, ["extend", str(out), "--trials", "3"])
    assert result.exit_code == 0, result.output
    assert "Extended by 3 trials" in result.output
    (command,) = (out / "commands").iterdir()
    assert json.loads(command.read_text()) == {"wish": "extend", "trials": 3}
    assert "not limited by hours" in hpa("extend", out, "--hours", 0.5)
    assert "--hours: 0.0 is not in the range" in hpa("extend", out, "--hours", 0).replace("'", "").replace(
        "Invalid value for ", ""
    )
    assert "give --trials, --hours or --epochs" in hpa("extend", out)


@pytest.mark.parametrize("content", [b"", b"{}\n", b"[]\n", b"null\n", b"hello\n", b"\x00" * 50])
def test_a_damaged_ledger_is_named_and_kept(hpa, out, content):
    (out / "study.journal").write_bytes(content)
    assert "study.journal" in hpa("status", out)
    assert (out / "study.journal").read_bytes().startswith(content)


@pytest.mark.parametrize("content", [b"hello\n", b"{}\n", b'{"op_code": 0}\n{"op_code": 99}\n'])
def test_a_damaged_ledger_is_refused_by_the_driver_too(tmp_path, content):
    (tmp_path / "study.journal").write_bytes(content)
    with pytest.raises(UserError, match="study.journal: damaged"):
        lease.take(tmp_path, "toy")
    assert (tmp_path / "study.journal").read_bytes() == content


@pytest.mark.parametrize("name", ["provenance.json", "search.yaml", "split.csv"])
def test_a_damaged_out_is_named_and_kept(hpa, out, space, data, name):
    (out / name).write_text("{")
    before = contents(out)
    assert name in hpa("finish", out)
    assert name in hpa("run", space, "--data", data, "--out", out)
    assert contents(out) == before


def damage(data: Path, kind: str) -> str:
    """Damage a dataset; return words that the message must hold."""
    lines = (data / "train.csv").read_text().splitlines()
    first = lines[1].split(",")[0]
    image = data / "train" / f"{first}_green.png"
    if kind == "missing channel":
        image.unlink()
    elif kind == "cut image":
        image.write_bytes(image.read_bytes()[:60])
    elif kind == "no image":
        image.write_text("<html>404</html>")
    elif kind == "no table":
        (data / "train.csv").unlink()
    elif kind == "binary table":
        (data / "train.csv").write_bytes(b"\xff\xfe\x00\x01")
    else:
        changed = {
            "empty table": [],
            "header only": lines[:1],
            "label 28": [lines[0], f"{first},28", *lines[2:]],
            "twice": [*lines, lines[1]],
            "column": ["Id,Labels", *lines[1:]],
        }[kind]
        (data / "train.csv").write_text("".join(f"{line}\n" for line in changed))
        return {"label 28": "line 2", "twice": "already on line 2", "column": "Target"}.get(kind, "train.csv")
    return image.name if image.name.split("_")[0] and "image" in kind or "channel" in kind else "train.csv"


KINDS = (
    "missing channel", "cut image", "no image", "no table", "binary table",
    "empty table", "header only", "label 28", "twice", "column",
)  # fmt: skip
SPACES = {
    "budgte": ("name: a\nbudgte: {trials: 2}\n", "did you mean 'budget'?"),
    "rate": (SPACE + "space: {learning_rate: {range: [0.1, 20]}}\n", "expected a number above 0 and at most 1 (given: 20.0)"),
    "tab": ("name: a\nbudget:\n\ttrials: 2\n", "line 3, column 1: not valid YAML"),
    "empty": ("", "expected a mapping"),
    "backbone": (SPACE + "space: {backbone: {choice: [resnt50]}}\n", "did you mean 'resnet50'?"),
}


def test_damage_through_the_real_command_line(data, space, tmp_path):
    """Ten damaged datasets and five damaged space files; the slow imports are paid once."""
    commands, words = [], []
    for kind in KINDS:
        root = tmp_path / kind
        make_phantom(root, images=3, size=32, seed=2, test_images=1, workers=1)
        found = damage(root, kind)
        commands += [
            ["data", "check", root, "--sheet", tmp_path / "s.png"],
            ["run", space, "--data", root, "--out", tmp_path / "o"],
        ]
        words += [found, found]
    for name, (text, found) in SPACES.items():
        (tmp_path / f"{name}.yaml").write_text(text)
        commands.append(["run", tmp_path / f"{name}.yaml", "--data", data, "--out", tmp_path / "o"])
        words.append(found)
    given = json.dumps([list(map(str, command)) for command in commands])
    environment = {**os.environ, "HPA_SEARCH_CACHE": str(tmp_path / "cache")}
    done = subprocess.run([sys.executable, "-c", ONE_BY_ONE], input=given, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(commands) == 25
    for (code, said), expected in zip(answers, words, strict=True):
        assert expected in refused(code, said)
    assert not (tmp_path / "o").exists()
    assert not (tmp_path / "s.png").exists()


def test_a_process_of_its_own_says_one_message_and_exits_with_2(tmp_path):
    command = [sys.executable, "-m", "hpa_search.cli", "status", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert "no search here" in refused(done.returncode, done.stderr)
    assert done.stdout == ""


def test_an_unknown_option_and_a_missing_one():
    for arguments, words in (
        (["run", "x.yaml", "--learning-rate", "1"], "No such option"),
        (["run", "x.yaml"], "Missing option"),
    ):
        result = CliRunner().invoke(main, arguments)
        assert words in refused(result.exit_code, result.output)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (("run", "", "--data", "d", "--out", "o"), "SPACE"),
        (("run", "s", "--data", "", "--out", "o"), "--data"),
        (("run", "s", "--data", "d", "--out", ""), "--out"),
        (("run", "s", "--data", "d", "--out", "  "), "--out"),
        (("run", "s", "--data", "d", "--out", "o", "--external", ""), "--external"),
        (("run", "s", "--data", "d", "--out", "o", "--cache", ""), "--cache"),
        (("submit", "s", "--address", "h:1", "--data", "", "--out", "o"), "--data"),
        (("submit", "s", "--address", "h:1", "--data", "d", "--out", ""), "--out"),
        (("submit", "s", "--address", "h:1", "--data", "d", "--out", "o", "--cache", ""), "--cache"),
        (("status", ""), "TARGET"),
        (("pause", ""), "TARGET"),
        (("stop", ""), "TARGET"),
        (("extend", "", "--trials", "1"), "TARGET"),
        (("resume", ""), "TARGET"),
        (("resume", "o", "--data", ""), "--data"),
        (("resume", "o", "--external", ""), "--external"),
        (("finish", ""), "OUT"),
        (("finish", "o", "--also", ""), "--also"),
        (("compare", ""), "OUT"),
        (("tensorboard", ""), "OUT"),
        (("predict", "", "d"), "BUNDLE"),
        (("predict", "b", ""), "IMAGES"),
        (("predict", "b", "d", "--out", ""), "--out"),
        (("predict", "b", "d", "--list", ""), "--list"),
        (("predict", "b", "d", "--probabilities", ""), "--probabilities"),
        (("ensemble", "--predictions", "", "--out", "o"), "--predictions"),
        (("ensemble", "--predictions", "p", "--out", ""), "--out"),
        (("ensemble", "--predictions", "p", "--out", "o", "--apply", ""), "--apply"),
        (("data", "check", ""), "FOLDER"),
        (("data", "check", "d", "--sheet", ""), "--sheet"),
        (("data", "phantom", ""), "FOLDER"),
    ],
)
def test_an_empty_path_is_refused_by_the_name_of_its_option(tmp_path, monkeypatch, arguments, name):
    """As of a variable in quotes that is not set; it is not the current folder."""
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, list(arguments))
    assert f"Error: {name}: is empty" in refused(result.exit_code, result.output)
    assert not list(tmp_path.iterdir())


def test_every_path_among_the_options_is_of_a_kind_that_refuses_an_empty_one():
    """So that a new option is, too."""
    no_paths = {"study", "address", "ensemble", "selection", "thresholds", "tta", "by"}

    def texts(command):
        for inner in getattr(command, "commands", {}).values():
            yield from texts(inner)
        yield from (parameter for parameter in command.params if parameter.type.name in ("text", "path", "place"))

    plain = [parameter for parameter in texts(main) if not isinstance(parameter.type, type(GIVEN))]
    assert {parameter.name for parameter in plain} <= no_paths | {"ray"}


NOBODY = """
import os, pwd, sys
from click.testing import CliRunner
pwd.getpwuid = lambda number: {}[number]
for name in ("HOME", "USER", "LOGNAME", "HPA_SEARCH_CACHE"):
    os.environ.pop(name, None)
if sys.argv[1] != "-":
    os.environ["HPA_SEARCH_CACHE"] = sys.argv[1]
from hpa_search.cli import main
result = CliRunner().invoke(main, sys.argv[2:])
print(result.output, end="")
sys.exit(result.exit_code)
"""


@pytest.mark.long
def test_a_user_without_a_home_is_asked_for_a_cache_where_one_is_needed(data, out, tmp_path):
    def run(cache, *arguments):
        command = [sys.executable, "-c", NOBODY, cache, *arguments]
        return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, cwd=tmp_path)

    needed = run("-", "data", "check", data, "--sheet", tmp_path / "s.png")
    assert "--cache FOLDER, or set HPA_SEARCH_CACHE or HOME" in refused(needed.returncode, needed.stdout)
    assert run("-", "status", out).returncode == 0
    assert run("-", "extend", out, "--trials", 1).returncode == 0
    named = run(tmp_path / "other", "data", "check", data, "--sheet", tmp_path / "s.png")
    assert named.returncode == 0, named.stderr
    assert not (tmp_path / "~").exists()


def test_a_current_folder_that_is_gone(data, tmp_path):
    (tmp_path / "gone").mkdir()
    program = "import os, sys; os.rmdir(os.getcwd()); from hpa_search.cli import main; main(sys.argv[1:])"
    for arguments in (
        ["data", "check", data, "--cache", tmp_path / "c"],
        ["status", "out"],
        ["data", "phantom", "new", "--size", 32],
    ):
        (tmp_path / "gone").mkdir(exist_ok=True)
        command = [sys.executable, "-c", program, *map(str, arguments)]
        ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path / "gone")
        told = refused(ended.returncode, ended.stderr)
        assert "current folder is gone" in told and "cd to one that exists" in told


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "OUT/a"), "no space is left.*another disk with --out"),
        (OSError(errno.EACCES, "Permission denied", "CACHE/a"), "no permission.*with --cache or HPA_SEARCH_CACHE"),
        (OSError(errno.EROFS, "Read-only file system", "DATA/a"), "read-only.*with DATA"),
        (
            OSError(errno.EACCES, "Permission denied", "/elsewhere"),
            r"/elsewhere: user id .* has no permission[^,]*ls -ld shows them\)$",
        ),
        (OSError(errno.ENOSPC, "No space left on device", f"/tmp/{TEMPORARY}x/content"), "with TMPDIR"),
        (RuntimeError("Symlink loop from '/a'"), "/a: symbolic links lead in a circle"),
        (MemoryError(), "not enough memory"),
    ],
)
def test_what_the_system_refused_names_the_option_of_its_place(tmp_path, error, words):
    paths = {name: tmp_path / name for name in ("OUT", "CACHE", "DATA")}
    if isinstance(error, OSError) and error.filename[0] != "/":
        error.filename = str(tmp_path / error.filename)

    @click.command()
    @click.option("--out", type=PLACE)
    @click.argument("data", type=FOLDER)
    @CACHE
    @told
    def command(**given):
        raise error

    result = CliRunner().invoke(command, [str(paths["DATA"]), "--out", str(paths["OUT"]), "--cache", str(paths["CACHE"])])
    assert re.search(words, refused(result.exit_code, result.output).strip(), re.DOTALL)
