"""Serve TensorBoard on the runs of a search."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from hpa_search.board.events import FOLDER
from hpa_search.errors import UserError
from hpa_search.storage.opened import every, opened
from hpa_search.storage.place import Location

REFRESH_SECONDS = 15.0
"""Seconds between two fetches of the files of a search in an object store."""


def serve(out: Location, cache: Path, port: int, say: Callable[[str], None] = print) -> int:
    """Serve TensorBoard on the trials of the search in ``out`` until it is stopped; return TensorBoard's exit code.

    Files in an object store are fetched into ``cache``, again every few seconds. Raises UserError if there is nothing to show.
    """
    with opened(out, cache, f"{FOLDER}/", say=say) as work:
        folder = work.folder / FOLDER
        if not folder.is_dir():
            raise UserError(f"{folder}: nothing to show; give the --out of a `hpa-search run`")
        command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder), "--port", str(port)]
        with every(REFRESH_SECONDS, lambda: work.fetch(f"{FOLDER}/"), say):
            return subprocess.call(command)
