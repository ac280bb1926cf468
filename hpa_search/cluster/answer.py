"""Runs commands of ours on the cluster for someone elsewhere: python -m hpa_search.cluster.answer '[["status", "OUT"]]'."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence

MARK = "hpa-search answers: "
"""Begins the line of the log that holds the answers, as JSON: for each command `code`, `out` and `err`."""


def run(command: Sequence[str]) -> dict[str, int | str]:
    """Run one of our own commands; return its exit code and what it wrote to stdout and stderr."""
    here = {**os.environ, "RAY_API_SERVER_ADDRESS": ""}
    done = subprocess.run(
        [sys.executable, "-m", "hpa_search.cli", *command], capture_output=True, encoding="utf-8", errors="replace", env=here
    )
    return {"code": done.returncode, "out": done.stdout, "err": done.stderr}


if __name__ == "__main__":
    answers = [run(command) for command in json.loads(sys.argv[1])]
    print(f"\n{MARK}{json.dumps(answers)}", flush=True)
