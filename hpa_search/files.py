"""Files that appear whole: written beside their place, then renamed into it."""

import errno
import json
import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

LEAST_ROOM = 1 << 20


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it to ``path`` if the block succeeds.

    A reader sees the old file or the new one, never a part. The content is on disk before the
    rename, so a power cut cannot leave an empty file under the final name. Raises OSError (ENOSPC) on a full disk,
    whatever the writer in the block made of that.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except Exception as error:
        if not isinstance(error, OSError) and _is_full(path.parent):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _is_full(folder: Path) -> bool:
    """Whether a write of some blocks fails for want of room: the disk's, or that of a quota."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(LEAST_ROOM))
            file.flush()
    except OSError as error:
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return False


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8 so that ``path`` appears whole."""
    with whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` as indented JSON so that ``path`` appears whole; NaN is refused."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")
