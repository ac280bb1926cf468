"""What a job is given: this very installation's code, and an environment in which it ends gracefully."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hpa_search

STOP_SECONDS = 60
"""How long a job may take to end by itself when it is stopped; Ray's default of 3 s would cut it off."""

ENVIRONMENT = {
    # Ray's supervisor of the job, which runs in the job's environment, reads both (job_supervisor.py of Ray 2.60).
    "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS),
    "RAY_JOB_STOP_SIGNAL": "SIGTERM",
    # What runs on the cluster is where it belongs, even if the head's environment names a dashboard.
    "RAY_API_SERVER_ADDRESS": "",
}


@contextmanager
def packed(search: str | None = None) -> Iterator[dict[str, Any]]:
    """Yield the runtime environment of a job; ``search`` is the text of the search.yaml in its working folder, if it needs one.

    Ray names packages by their content, so that the same code is sent to a cluster once.
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
