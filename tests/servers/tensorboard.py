"""A real TensorBoard server on a folder, asked over HTTP as its pages ask it."""

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.servers.ports import free_port

START_SECONDS = 120


class Server:
    """Answers as TensorBoard's pages get them."""

    def __init__(self, url: str) -> None:
        self.url = url

    def get(self, path: str, body: Any = None) -> Any:
        """Return the JSON of ``path`` below /data; a ``body`` is posted."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/data/{path}", data=data, headers={"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def columns(self) -> dict[str, Any]:
        """Return the columns of the page HPARAMS, by name."""
        found = self.get("plugin/hparams/experiment", {"experimentName": "", "includeMetrics": True, "hparamsLimit": 0})
        return {column["name"]: column for column in found["hparamInfos"]}

    def rows(self, metrics: list[str]) -> dict[str, Any]:
        """Return the rows of the page HPARAMS by run: parameters, status, and ``metrics``."""
        names = list(self.columns())
        asked = {
            "experimentName": "",
            "allowedStatuses": ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"],
            "colParams": [{"hparam": name, "includeInResult": True} for name in names]
            + [{"metric": {"tag": name}, "includeInResult": True} for name in metrics],
            "startIndex": 0,
            "sliceSize": 10000,
        }
        found = {}
        for group in self.get("plugin/hparams/session_groups", asked)["sessionGroups"]:
            for session in group["sessions"]:
                values = {value["name"]["tag"]: value["value"] for value in session.get("metricValues", [])}
                found[session["name"]] = {"parameters": group["hparams"], "status": session["status"], "metrics": values}
        return found


@contextmanager
def tensorboard(logdir: Path) -> Iterator[Server]:
    """Serve ``logdir`` until the block ends; all of it has been read when the block begins."""
    port = free_port()
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(logdir), "--port", str(port), "--reload_interval", "1"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        server = Server(f"http://127.0.0.1:{port}")
        deadline, runs, before = time.monotonic() + START_SECONDS, {path.name for path in logdir.iterdir()}, None
        while (found := _shown(server)) is None or found.keys() != runs or found != before:
            assert process.poll() is None and time.monotonic() < deadline, found
            before = found
            time.sleep(1.5)  # longer than from one reading of the files to the next
        yield server
    finally:
        process.terminate()
        process.wait()


def _shown(server: Server) -> dict[str, Any] | None:
    """Return the data of each run by page, or None while the server does not answer."""
    try:
        pages = [server.get(f"plugin/{name}/tags") for name in ("scalars", "text")]
        return {run: [page.get(run) for page in pages] for run in server.get("runs")}
    except (urllib.error.URLError, ConnectionError):
        return None
