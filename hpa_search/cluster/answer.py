"""Run our own commands on the cluster and print their answers as JSON.

To call it: `python -m hpa_search.cluster.answer '[["status", "OUT"]]'`.
"""

import io
import json
import os
import runpy
import sys
import traceback
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout

MARK = "hpa-search answers: "
"""Begins the log's line with the answers: a JSON list with `code`, `out` and `err` of each command."""


def run(command: Sequence[str]) -> dict[str, int | str]:
    """Run one of our commands in this process; return its exit code, stdout and stderr."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    sys.argv = ["hpa-search", *command]
    with redirect_stdout(out), redirect_stderr(err):
        try:
            runpy.run_module("hpa_search.cli", run_name="__main__")
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        except Exception:
            traceback.print_exc()
            code = 1
    return {"code": code, "out": out.getvalue(), "err": err.getvalue()}


if __name__ == "__main__":
    os.environ["RAY_API_SERVER_ADDRESS"] = ""  # a command with an address would be sent to a cluster again
    commands = json.loads(sys.argv[1])
    answers = [run(command) for command in commands]
    print(f"\n{MARK}{json.dumps(answers)}", flush=True)
