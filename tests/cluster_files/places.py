"""The files under test, and how a line of theirs is read by the command line."""

import re
import shlex
from pathlib import Path

import click

from hpa_search.cli import main

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"
DOCKERFILE = CLUSTER / "Dockerfile"
MANIFESTS = CLUSTER / "kuberay"
RAY_JOB = MANIFESTS / "rayjob.yaml"
SCRIPTS = [CLUSTER / "end-searches.sh", CLUSTER / "plain/start-head.sh", CLUSTER / "plain/start-worker.sh"]
SBATCH = CLUSTER / "slurm/search.sbatch"


def parse_command(line: str) -> click.Context:
    """Return what ``hpa-search`` makes of a shell line, without running it; click.UsageError where it would refuse it."""
    words = shlex.split(line, comments=True)
    assert words.pop(0) == "hpa-search"
    command: click.Command = main
    context = click.Context(main, info_name="hpa-search")
    while isinstance(command, click.Group):
        name = words.pop(0) if words else ""
        found = command.get_command(context, name)
        if found is None:
            raise click.UsageError(f"no such command: {name}", context)
        command = found
    return command.make_context(command.name, words, parent=context)


def offered_entrypoints() -> list[str]:
    """Return the RayJob's entrypoint that is in force, and the one that stands beside it as a comment."""
    return re.findall(r"^  (?:# )?entrypoint: (.+)$", RAY_JOB.read_text(encoding="utf-8"), re.MULTILINE)
