"""Searches as jobs on a Ray cluster, by way of Ray's Jobs API."""

import os
import shlex
import shutil
import tempfile
import uuid
from pathlib import Path

import hpa_search
from hpa_search.errors import UserError
from hpa_search.search.reading import read_search

STOP_SECONDS = 60
"""How long a job may take to end by itself when it is stopped; Ray's default of 3 s would cut it off."""


def submit(space: Path, address: str, data: str, out: str, *, external: str | None = None, cache: str | None = None) -> list[str]:
    """Send the search of the file ``space`` to the cluster whose dashboard is at ``address``, such as http://HEAD:8265.

    ``data``, ``out`` and ``external`` are as the cluster's nodes see them. The job runs this very installation's code, so the nodes
    need its dependencies only. Returns the lines that tell how to follow it. Raises UserError if the file is at
    fault, or the cluster cannot be reached or refuses the job.
    """
    search, text = read_search(space)
    places = {"--data": data, "--out": out, "--external": external, "--cache": cache}
    for option, place in places.items():
        if place is not None and not Path(place).is_absolute():
            raise UserError(f"{option} {place}: give a whole path; the job runs in a folder of its own, which Ray deletes")
    options = [word for option, place in places.items() if place is not None for word in (option, place)]
    entrypoint = ["python", "-m", "hpa_search.cli", "run", "search.yaml", *options, "--ray", "auto"]
    with tempfile.TemporaryDirectory() as folder:
        job = Path(folder) / "job"
        job.mkdir()
        (job / "search.yaml").write_text(text, encoding="utf-8")
        code = Path(folder) / "code" / "hpa_search"
        shutil.copytree(Path(hpa_search.__file__).parent, code, ignore=shutil.ignore_patterns("__pycache__"))
        number = _send(address, f"{search.name}-{uuid.uuid4().hex[:8]}", entrypoint, Path(folder))
    return [
        f"Submitted as {number}.",
        f"Follow it:  ray job logs {number} --address {address} --follow",
        f"Its state:  ray job status {number} --address {address}, or where its folder can be seen: hpa-search status {out}",
        f"Stop it:    ray job stop {number} --address {address}; the same submit goes on with it",
    ]


def _send(address: str, name: str, entrypoint: list[str], folder: Path) -> str:
    _take_token()
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    try:
        client = JobSubmissionClient(address)
        return client.submit_job(
            entrypoint=shlex.join(entrypoint),
            submission_id=name,
            runtime_env={
                "working_dir": str(folder / "job"),
                "py_modules": [str(folder / "code" / "hpa_search")],
                "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS)},
            },
        )
    except AuthenticationError:
        raise UserError(
            f"{address}: the cluster asks for a token, and this is not its own, or there is none. Copy the file that `ray get-auth-token` "
            "shows on the cluster's head to ~/.ray/auth_token here, or set RAY_AUTH_TOKEN"
        ) from None
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UserError(f"{address}: the cluster did not take the job: {error}") from None


def _take_token() -> None:
    """Let Ray's client send the token that is at hand; by itself it does so for a cluster it starts, not for one it visits."""
    at_hand = {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & set(os.environ) or (Path.home() / ".ray" / "auth_token").is_file()
    if at_hand:
        os.environ.setdefault("RAY_AUTH_MODE", "token")
