"""A real TensorBoard server on a folder, asked over HTTP as its pages ask it."""

import json
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator  # type: ignore[import-untyped]

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
    """Serve ``logdir`` until the block ends; all its scalars have been read when the block begins."""
    port = free_port()
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(logdir), "--port", str(port), "--reload_interval", "1"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        server = Server(f"http://127.0.0.1:{port}")
        deadline, written = time.monotonic() + START_SECONDS, _written(logdir)
        while (shown := _shown(server)) != written:
            assert process.poll() is None and time.monotonic() < deadline, (shown, written)
            time.sleep(0.5)
        yield server
    finally:
        process.terminate()
        process.wait()


def _written(logdir: Path) -> dict[str, dict[str, list[int]]]:
    """Return the steps of each scalar of each run, as the files hold them; of one step, TensorBoard shows the last value."""
    found = {}
    for folder in logdir.iterdir():
        events = EventAccumulator(str(folder), size_guidance={SCALARS: 0}).Reload()
        found[folder.name] = {tag: sorted({event.step for event in events.Scalars(tag)}) for tag in events.Tags()[SCALARS]}
    return found


def _shown(server: Server) -> dict[str, dict[str, list[int]]] | None:
    """Return the same as the server shows it, or None while it does not answer."""
    try:
        found: dict[str, dict[str, list[int]]] = {run: {} for run in server.get("runs")}
        for run, tags in server.get("plugin/scalars/tags").items():
            for tag in tags:
                asked = urllib.parse.urlencode({"run": run, "tag": tag})
                found[run][tag] = [step for _, step, _ in server.get(f"plugin/scalars/scalars?{asked}")]
        return found
    except (urllib.error.URLError, ConnectionError):
        return None
