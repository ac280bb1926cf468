"""The command line. Each command reads its options and calls one function; heavy imports happen inside the commands."""

import click

from hpa_search import __version__
from hpa_search.cli.cluster import list_jobs, logs, submit
from hpa_search.cli.control import extend, pause, resume, status, stop
from hpa_search.cli.data import data
from hpa_search.cli.predictions import ensemble, predict
from hpa_search.cli.program import Program
from hpa_search.cli.search import compare, finish, plan, report, run, tensorboard


@click.group(cls=Program)
@click.version_option(__version__)
def main() -> None:
    """Hyperparameter search for multi-label microscopy image classification."""


for command in (
    data,
    plan,
    run,
    submit,
    list_jobs,
    status,
    logs,
    pause,
    resume,
    stop,
    extend,
    tensorboard,
    report,
    compare,
    finish,
    ensemble,
    predict,
):
    main.add_command(command)
