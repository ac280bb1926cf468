"""Every command that the page and the files show is one that exists, with these options."""

import re
import shlex
import shutil
import subprocess

import click
import pytest

from hpa_search.cli import main
from tests.cluster_files.places import CLUSTER, ROOT, SBATCH, offered_entrypoints, parse_command

PAGE = (CLUSTER / "README.md").read_text(encoding="utf-8")
BLOCKS = "".join(re.findall(r"```\n(.*?)```", PAGE, re.DOTALL)).splitlines()
OURS = [line for line in BLOCKS if line.startswith("hpa-search ")]


@pytest.mark.parametrize("line", [*OURS, *offered_entrypoints()])
def test_it_is_taken(line):
    try:
        parse_command(line)
    except click.UsageError as error:
        pytest.fail(f"{line}: {error.format_message()}")


def test_what_follows_sbatch_goes_to_run():
    (line,) = (line for line in BLOCKS if line.startswith("sbatch "))
    _, script, *arguments = shlex.split(line)
    assert ROOT / script == SBATCH
    parse_command(shlex.join(["hpa-search", "run", *arguments, "--ray", "auto"]))


def test_commands_named_in_the_text_exist():
    named = set(re.findall(r"`hpa-search (\w+)", PAGE))
    assert named and named <= set(main.commands)


@pytest.mark.parametrize(
    "line",
    [
        "hpa-search searches --address x",
        "hpa-search run x --date y --out z",
        "hpa-search submit x --data y --out z",
        "hpa-search",
    ],
)
def test_what_does_not_exist_is_refused(line):
    with pytest.raises(click.UsageError):
        parse_command(line)


def test_the_page_names_what_is_there():
    """Links are checked by test_readme; these are the files that commands name."""
    for line in BLOCKS:
        for word in shlex.split(line, comments=True):
            path = word.split("=")[-1]
            if path.startswith(("cluster/", "search_spaces/")):
                assert (ROOT / path).is_file(), path


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
@pytest.mark.parametrize("line", [line for line in BLOCKS if line.startswith("kubectl create ")])
def test_kubectl_makes_them_without_a_cluster(line, tmp_path):
    (tmp_path / "search_spaces").symlink_to(ROOT / "search_spaces")
    (tmp_path / "keys.env").write_text("PGPASSWORD=x\n")
    command = [*shlex.split(line, comments=True), "--dry-run=client", "--output=json"]
    made = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path, check=False)
    assert made.returncode == 0, made.stderr
    assert '"search.yaml"' in made.stdout or '"PGPASSWORD"' in made.stdout
