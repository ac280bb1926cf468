"""The runtime environment of a job: this installation's code, and settings for an orderly end."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hpa_search

STOP_SECONDS = 60
"""How long a stopped job may take to end by itself. Ray's default, 3 s, is too short for a driver."""

ENVIRONMENT = {
    # Ray's supervisor of the job runs in this environment and reads both (job_supervisor.py of Ray 2.60).
    "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS),
    "RAY_JOB_STOP_SIGNAL": "SIGTERM",
    # The head may have an address set, and commands of the job would be sent to a cluster again.
    "RAY_API_SERVER_ADDRESS": "",
}


@contextmanager
def packed(search: str | None = None) -> Iterator[dict[str, Any]]:
    """Yield the runtime environment of a job. ``search`` is the text of its search.yaml.

    Without ``search`` the job has no working folder. Ray names packages by their content: a cluster gets the same code once.
    """
    with tempfile.TemporaryDirectory() as folder:
        code = Path(folder) / "code" / "hpa_search"
        shutil.copytree(Path(hpa_search.__file__).parent, code, ignore=shutil.ignore_patterns("__pycache__"))
        environment: dict[str, Any] = {"py_modules": [str(code)], "env_vars": dict(ENVIRONMENT)}
        if search is not None:
            job = Path(folder) / "job"
            job.mkdir()
            (job / "search.yaml").write_text(search, encoding="utf-8")
            environment["working_dir"] = str(job)
        yield environment
