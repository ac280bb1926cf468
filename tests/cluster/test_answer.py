"""A helper on the cluster: our own commands, each with its exit code, stdout and stderr."""

import json
import os
import subprocess
import sys

from hpa_search.cluster.answer import MARK


def test_each_command_is_answered_on_one_line(tmp_path):
    commands = json.dumps([["status", str(tmp_path), "--json"], ["--version"], ["status", str(tmp_path)], ["no-such"]])
    # With this address, the commands would be sent to a cluster again.
    environment = {**os.environ, "RAY_API_SERVER_ADDRESS": "http://127.0.0.1:9"}
    command = [sys.executable, "-m", "hpa_search.cluster.answer", commands]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    (line,) = [line for line in done.stdout.splitlines() if line.startswith(MARK)]
    refused, version, again, unknown = json.loads(line.removeprefix(MARK))
    assert refused["code"] == 2 and refused["out"] == ""
    assert refused["err"].startswith(f"Error: {tmp_path}") and "no search" in refused["err"]
    assert again == refused
    assert unknown["code"] == 2 and "No such command" in unknown["err"]
    assert version["code"] == 0 and "version" in version["out"]
