"""A small disk that can be full: a file system in memory, mounted for a test."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def _can_mount() -> bool:
    return os.geteuid() == 0 and subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True).returncode == 0


needs_mounts = pytest.mark.skipif(not _can_mount(), reason="mounting a small file system needs root")


@contextmanager
def small_disk(folder: Path, *, megabytes: int) -> Iterator[Path]:
    """Yield ``folder``, on a file system of so many MB."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
