"""Files that appear whole: written beside their final place, then renamed into it.

Devices, pipes and open files are written through instead.
"""

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import stat
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpa_search.errors import UserError
from hpa_search.system_errors import as_os_error

LEAST_ROOM = 1 << 20
"""Bytes of a trial write, enough to meet a full disk or quota."""

LONGEST_NAME = 200
"""Bytes of a name that may become part of a longer name. File systems allow 255 in all."""

TEMPORARY = "hpa-search-"
"""The prefix of temporary folders' names."""

_DESCRIPTORS = re.compile(r"/proc/(\d+)(/task/\d+)?/fd")
_CANNOT_SYNC = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)
_MOST_LINKS = 40


@dataclass(frozen=True)
class Destination:
    """The file that a write to a path reaches. ``path`` is not a symbolic link, and may not exist yet.

    A ``stream`` must be written through. It is a device, a pipe, a file mounted by itself, or an open file of a process.
    ``descriptor`` is the number of an open file of this process.
    """

    path: Path
    stream: bool = False
    descriptor: int | None = None

    @classmethod
    def of(cls, path: Path) -> "Destination":
        """Follow the symbolic links of ``path``. Raises OSError (ELOOP) if they lead in a circle."""
        here = path
        for _ in range(_MOST_LINKS):
            if (found := _DESCRIPTORS.fullmatch(os.path.realpath(here.parent))) and here.name.isdecimal():
                return cls(here, True, int(here.name) if int(found[1]) == os.getpid() else None)
            if not here.is_symlink():
                return cls(here, _is_stream(here))
            here = here.parent / here.readlink()
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))


def check_writable(path: Path) -> None:
    """Raise OSError that names ``path`` if `whole` could not write it, as far as can be checked. Leave nothing behind.

    Missing folders above ``path`` are allowed, since `whole` makes them; those above a symbolic link's target are not.
    """
    try:
        place = Destination.of(path)
        if place.stream:
            _check_stream(place)
        elif place.path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        elif place.path == path:
            _check_folder(next(one for one in path.absolute().parents if one.exists() or one.is_symlink()))
        else:
            _check_folder(place.path.parent)
    except OSError as error:
        error.filename, error.filename2 = str(path), None
        raise


def _check_stream(place: Destination) -> None:
    if place.descriptor is None:
        if not os.access(place.path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    elif fcntl.fcntl(place.descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))


def _check_folder(folder: Path) -> None:
    if not stat.S_ISDIR(folder.stat().st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    with tempfile.TemporaryFile(dir=folder):
        pass


def hidden_beside(path: Path, ending: str) -> Path:
    """Return the hidden path beside ``path``, of its name and ``ending``. A hash replaces a name that is too long."""
    name = os.fsencode(path.name)
    known = path.name if len(name) <= LONGEST_NAME else hashlib.sha256(name).hexdigest()[:16]
    return path.with_name(f".{known}.{ending}")


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yield a temporary path; its content appears at ``path`` if the block succeeds.

    The temporary file lies beside ``path``, or beside the file that it links to. A rename puts it into place, so a reader
    sees the old file or the new one, never a part. The content is on disk before the rename: a power cut cannot leave an
    empty file under the final name. A replaced file keeps its mode. A new file gets the umask's mode, whatever mode the block
    gave it. A device, a pipe or an open file (`/dev/stdout`) gets a copy of the temporary file.

    Raises OSError that names ``path`` if the disk refuses the write, whatever error the block made of that.
    """
    place = Destination.of(path)
    if place.path == path and not place.stream:
        path.parent.mkdir(parents=True, exist_ok=True)
    with _written_through(path, place) if place.stream else _replaced(path, place.path) as temporary:
        yield temporary


@contextmanager
def _replaced(path: Path, target: Path) -> Iterator[Path]:
    temporary = hidden_beside(target, f"{os.getpid()}.{uuid.uuid4().hex[:8]}")
    try:
        mode = _new_mode(target, temporary)
        yield temporary
        _settle(temporary, mode)
        _rename(temporary, target)
    except Exception as error:
        if (fault := _fault(error, path, temporary)) is error:
            raise
        raise fault from error
    finally:
        with suppress(OSError):  # must not hide the first error
            temporary.unlink(missing_ok=True)


def _new_mode(target: Path, temporary: Path) -> int:
    """Create ``temporary``. Return the mode of ``target``, or without a target the mode that umask and folder give a new file."""
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        mode = os.fstat(descriptor).st_mode
    finally:
        os.close(descriptor)
    with suppress(FileNotFoundError):
        mode = target.stat().st_mode
    return mode & 0o777


def _settle(temporary: Path, mode: int) -> None:
    with temporary.open("rb") as file:
        _sync(file.fileno())
    if temporary.stat().st_mode & 0o777 != mode:
        with suppress(OSError):  # some file systems have no modes
            temporary.chmod(mode)


def _rename(temporary: Path, target: Path) -> None:
    try:
        temporary.replace(target)
    except OSError as error:
        if error.errno != errno.EBUSY or not _is_mounted(target):
            raise
        # A mounted file, as in a container, cannot be replaced.
        _copy(temporary, target, Destination(target, stream=True))


def _sync(descriptor: int) -> None:
    """Flush a file to its disk, if it is on one that supports that."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC:
            raise


def _fault(error: Exception, path: Path, temporary: Path) -> Exception:
    """Return ``error`` as an OSError that names ``path`` if the disk caused it; else return it unchanged."""
    found = as_os_error(error)
    if found is None:
        found = None if isinstance(error, UserError) else _write_error(temporary.parent)
    if found is None:
        return error
    if found.filename is None or found.filename == str(temporary):
        found.filename, found.filename2 = str(path), None
    return found


def _write_error(folder: Path) -> OSError | None:
    """Return the error of writing some blocks, such as a full disk or quota, or None."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(LEAST_ROOM))
            file.flush()
    except OSError as error:
        error.filename = None
        return error
    return None


@contextmanager
def _written_through(path: Path, place: Destination) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix=TEMPORARY) as folder:
        made = Path(folder) / "content"
        try:
            yield made
        except OSError as error:
            error.filename = error.filename or str(made)
            raise
        _copy(made, path, place)


def _copy(made: Path, path: Path, place: Destination) -> None:
    if place.descriptor is None:
        descriptor = os.open(place.path, os.O_WRONLY | os.O_TRUNC)
    else:
        # Duplicated, not opened by name: a new open would write from the beginning of the file.
        sys.stdout.flush()
        descriptor = os.dup(place.descriptor)
    try:
        with made.open("rb") as source, os.fdopen(descriptor, "wb") as sink:
            shutil.copyfileobj(source, sink)
            sink.flush()
            _sync(sink.fileno())
    except OSError as error:
        if not (isinstance(error, BrokenPipeError) and place.descriptor == 1):  # a closed stdout needs no path
            error.filename = str(path)
        raise


def _is_stream(path: Path) -> bool:
    try:
        found, above = path.stat(), path.parent.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    if stat.S_ISREG(found.st_mode):
        return found.st_dev != above.st_dev and _is_mounted(path)
    return not stat.S_ISDIR(found.st_mode)


def _is_mounted(path: Path) -> bool:
    """Return whether ``path`` itself is a mount point, which no rename can replace (proc(5), mountinfo)."""
    known = os.fsencode(os.path.realpath(path))
    with suppress(OSError), open("/proc/self/mountinfo", "rb") as file:  # noqa: PTH123
        points = (line.split()[4] for line in file)
        return any(re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8)]), point) == known for point in points)
    return False


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8 so that ``path`` appears whole."""
    with whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` as indented JSON so that ``path`` appears whole. Raises ValueError for NaN."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")
