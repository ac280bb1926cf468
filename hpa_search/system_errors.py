"""Messages for what the operating system refuses: what happened, where, and how to fix it or move the place.

    /scratch/cache: the image cache cannot be written: no space is left on the device (No space left on device); make room
    there, or choose a place on another disk with --cache or HPA_SEARCH_CACHE

A caller says what it was doing and which option moves the place. The kind of the fault comes from its errno.
"""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from hpa_search.errors import UserError

Where = Path | str

OUT = "--out"
CACHE = "--cache or HPA_SEARCH_CACHE"
"""The options that move the two places that are used most."""


class Refused(UserError):  # noqa: N818  (named for what the system did)
    """The system refused something. Unlike other faults of a file, this says nothing about the file's content."""


class NoLockService(OSError):  # noqa: N818  (named for the file system's state)
    """A lock was requested on a file system without locks."""


@dataclass(frozen=True)
class Kind:
    """A kind of refusal: ``what`` happened, its ``remedy``, and how an option helps (``move``).

    ``lasts`` says that everything else in that place fails too.
    """

    what: str
    remedy: str
    move: str = "choose another place"
    lasts: bool = False


FULL = Kind("no space is left on the device", "make room there", "choose a place on another disk", lasts=True)
CROWDED = Kind(
    "the device can hold no more files, though it has room", "delete files there (df -i counts them)", FULL.move, lasts=True
)
QUOTA = Kind("the quota is used up", "delete files of this user's there, or ask for a larger quota", lasts=True)
DENIED = Kind("user id {user} has no permission", "change owner or mode (ls -ld shows them)", lasts=True)
READ_ONLY = Kind("the file system is read-only", "mount it for writing", "choose a place on another one", lasts=True)
NO_LOCKS = Kind(
    "the file system has no lock service",
    "mount it with locks (Lustre: -o flock; NFS: version 4, or its lock daemon running)",
    "choose a place on another one",
    lasts=True,
)
LONG = Kind("the name is too long", "take a shorter one: at most 255 bytes a name, 4096 a whole path")
NO_FOLDER = Kind("{part} is a file, where a folder is expected", "move that file away, or correct the path")
FOLDER = Kind("is a folder, where a file is expected", "give the name of a file", "give a file")
MISSING = Kind("{part} is not there", "correct the path, or mount its disk")
THERE = Kind("{part} is there already", "move it away")
FILLED = Kind("the folder is not empty", "move away what it holds")
LOOP = Kind("symbolic links lead in a circle", "correct the link")
OPEN_FILES = Kind("this process has too many files open", "raise its limit, as with ulimit -n 65536", "", lasts=True)
ALL_OPEN_FILES = Kind(
    "this machine has too many files open", "end other programs, or raise the sysctl fs.file-max", "", lasts=True
)
AWAY = Kind(
    "the disk or its file server is broken or away",
    "check that it is mounted and answers (dmesg may say more), then give the same command again",
    "choose a place on another one",
    lasts=True,
)
TICKET = Kind("the file server no longer takes this user's ticket", "renew it, as with kinit", lasts=True)
LARGE = Kind("the file is too large for the file system or for this process", "raise ulimit -f", "choose a place on another disk")
BUSY = Kind("another program uses it, or a disk is mounted on it", "end that program (lsof), or unmount the disk")
UNREAD = Kind("nobody reads it any more", "start its reader again, then give the same command again", "")
MEMORY = Kind("there is not enough memory", "end other programs, or take a machine with more", "")
ENCODING = Kind("the name {name} has characters that cannot be written in {encoding}", "rename it, or set LC_ALL=C.UTF-8", "")
NUL = Kind("the path holds a null byte", "correct the path", "")
UNSUPPORTED = Kind("the file system does not support this", "mount it otherwise", "choose a place on another one")
GONE = Kind("the current folder is gone", "cd to one that exists, then give the same command again", "")
NO_TEMPORARY = Kind("no temporary folder can be written", "make room in /tmp, or set TMPDIR to a folder with room", "")
NO_HOME = Kind("user id {user} has no home folder", "set HOME to a folder of this user's", "")
OTHER = Kind("", "", "")

_KINDS = {
    "ENOSPC": FULL,
    "EDQUOT": QUOTA,
    "EACCES EPERM": DENIED,
    "EROFS": READ_ONLY,
    "ENOLCK": NO_LOCKS,
    "ENAMETOOLONG": LONG,
    "ENOTDIR": NO_FOLDER,
    "EISDIR": FOLDER,
    "ENOENT": MISSING,
    "EEXIST": THERE,
    "ENOTEMPTY": FILLED,
    "ELOOP": LOOP,
    "EMFILE": OPEN_FILES,
    "ENFILE": ALL_OPEN_FILES,
    "EIO ESTALE ETIMEDOUT ENOTCONN EHOSTDOWN EHOSTUNREACH EREMOTEIO ENODEV ENXIO ENOMEDIUM ESHUTDOWN EUCLEAN ENETDOWN": AWAY,
    "EKEYEXPIRED ENOKEY EKEYREJECTED EKEYREVOKED": TICKET,
    "EFBIG EOVERFLOW": LARGE,
    "EBUSY ETXTBSY": BUSY,
    "EPIPE": UNREAD,
    "ENOMEM": MEMORY,
    "EILSEQ": ENCODING,
    "ENOSYS EOPNOTSUPP": UNSUPPORTED,
}
_BY_NUMBER = {getattr(errno, name): kind for names, kind in _KINDS.items() for name in names.split() if hasattr(errno, name)}
_IN_TEXT = re.compile(r"\(os error (\d+)\)")
_LOOP_TEXT = re.compile(r"Symlink loop from '(.*)'")


def is_refusal(error: BaseException) -> bool:
    """Return whether ``error`` is the system's refusal, which a user can fix: an OSError or its equivalent."""
    return isinstance(error, OSError | MemoryError | UnicodeEncodeError) or _kind(error, None) is not OTHER


def lasts(error: BaseException) -> bool:
    """Return whether ``error`` also hits the next use of the same place, or the rest of this process, as a full disk does."""
    found = as_os_error(error)
    if found is None or (isinstance(found, TimeoutError | ConnectionError) and path_of(found) is None):
        return False
    return isinstance(found, NoLockService) or _BY_NUMBER.get(found.errno or 0, OTHER).lasts


def hides_content(error: BaseException) -> bool:
    """Return whether ``error`` kept an existing file from being read, so that its content is unknown."""
    found = as_os_error(error)
    return found is not None and found.errno not in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EINVAL)


def as_os_error(error: BaseException) -> OSError | None:
    """Return ``error`` as an OSError with a number, or None. Libraries in Rust put the number into the text."""
    if isinstance(error, OSError) and error.errno is not None:
        return error
    found = None if isinstance(error, UserError) else _IN_TEXT.search(str(error))
    return OSError(int(found[1]), os.strerror(int(found[1]))) if found else None


def refused(error: BaseException, place: Where | None = None, *, option: str = "", doing: str = "") -> Refused:
    """Return a Refused with the text of `message`."""
    return Refused(message(error, place, option=option, doing=doing))


@contextmanager
def refusing(place: Where | None = None, *, option: str = "", doing: str = "") -> Iterator[None]:
    """Raise Refused, with the text of `message`, for an OSError that leaves the block."""
    try:
        yield
    except OSError as error:
        raise refused(error, place, option=option, doing=doing) from error


def message(error: BaseException, place: Where | None = None, *, option: str = "", doing: str = "") -> str:
    """Return what ``error`` is, where it was, and what to do.

    ``place`` is where the caller was at work, ``option`` moves it, and ``doing`` says what failed there. ``option`` and
    ``doing`` are left out if the error names a path elsewhere.
    """
    where = path_of(error) or place
    if place is not None and where is not None and not (is_within(where, place) or _is_beside(where, place)):
        option, doing = "", ""
    kind = _kind(error, where)
    if kind is GONE:
        where = None
    parts = [str(where) if where is not None else "", doing, _what(error, kind, where)]
    remedy = ", or ".join(part for part in (kind.remedy, f"{kind.move} with {option}" if option and kind.move else "") if part)
    return ": ".join(part for part in parts if part) + (f"; {remedy}" if remedy else "")


def path_of(error: BaseException) -> str | None:
    """Return the path that ``error`` names, or None. Of two paths, return the one to be made."""
    if isinstance(error, OSError):
        for name in (error.filename2, error.filename):
            if isinstance(name, str | bytes | os.PathLike) and name:
                return os.fsdecode(name)
    found = _LOOP_TEXT.search(str(error)) if isinstance(error, RuntimeError) else None
    return found[1] if found else None


def is_within(where: Where, place: Where) -> bool:
    """Return whether ``where`` is ``place`` or lies in it."""
    with suppress(OSError, ValueError):
        return Path(os.path.realpath(where)).is_relative_to(os.path.realpath(place))
    return False


def _is_beside(where: Where, place: Where) -> bool:
    """Return whether ``place`` is a file and ``where`` lies in its folder, as its temporary file does."""
    with suppress(OSError, ValueError):
        return not Path(place).is_dir() and is_within(where, Path(os.path.realpath(place)).parent)
    return False


def _kind(error: BaseException, where: Where | None) -> Kind:
    if isinstance(error, NoLockService):
        return NO_LOCKS
    if isinstance(error, MemoryError):
        return MEMORY
    if isinstance(error, UnicodeEncodeError):
        return ENCODING
    if isinstance(error, OSError) and error.errno is not None:
        return _refined(_BY_NUMBER.get(error.errno, OTHER), error, where)
    return _by_text(str(error)) if isinstance(error, OSError | RuntimeError | ValueError) else OTHER


def _refined(kind: Kind, error: OSError, where: Where | None) -> Kind:
    """Return the exact kind where several kinds share an error number."""
    if kind is MISSING:
        return _missing(error)
    if where is None:
        return OTHER if kind is AWAY else kind  # a connection that timed out is not a disk's fault
    if kind is THERE and _dead_link(Path(where)) is not None:
        return MISSING
    return CROWDED if kind is FULL and _is_crowded(Path(where)) else kind


def _by_text(text: str) -> Kind:
    known = {"Symlink loop from": LOOP, "embedded null": NUL, "Could not determine home directory": NO_HOME}
    return next((kind for words, kind in known.items() if words in text), OTHER)


def _missing(error: OSError) -> Kind:
    if "No usable temporary directory" in str(error):
        return NO_TEMPORARY
    where = path_of(error)
    if where is None or not os.path.isabs(where):  # noqa: PTH117
        try:
            os.getcwd()  # noqa: PTH109
        except FileNotFoundError:
            return GONE
    return MISSING


def _is_crowded(where: Path) -> bool:
    """Return whether the file system of ``where`` has room but cannot hold another file."""
    with suppress(OSError, ValueError):
        found = os.statvfs(next(one for one in (where, *where.absolute().parents) if one.exists()))
        return found.f_files > 0 and found.f_favail == 0 and found.f_bavail > 0
    return False


def _dead_link(path: Path) -> Path | None:
    """Return the first part of ``path`` that is a dangling symbolic link, or None."""
    with suppress(OSError, ValueError):
        return next((part for part in (*reversed(path.parents), path) if part.is_symlink() and not part.exists()), None)
    return None


def _what(error: BaseException, kind: Kind, where: Where | None) -> str:
    said = error.strerror if isinstance(error, OSError) and error.strerror else ""
    if kind is OTHER:
        return said or " ".join(str(error).split()) or type(error).__name__
    what = kind.what.format(user=os.geteuid(), part=_part(kind, where), name=_name(error, where), encoding=_encoding(error))
    return f"{what} ({said})" if said else what


def _name(error: BaseException, where: Where | None) -> str:
    text = error.object if isinstance(error, UnicodeEncodeError) else str(where)
    return ascii(text if len(text) < 200 else f"{text[:200]}...")


def _encoding(error: BaseException) -> str:
    return error.encoding if isinstance(error, UnicodeEncodeError) else "that file system"


def _part(kind: Kind, where: Where | None) -> str:
    """Return the part of the path at fault: a dangling link, the first missing folder, or a file among the folders."""
    path = Path(where) if where is not None else None
    if path is None or kind not in (NO_FOLDER, MISSING, THERE):
        return "it"
    with suppress(OSError, ValueError):
        if (link := _dead_link(path)) is not None:
            return f"what the link {link} names, {link.readlink()},"
        if kind is THERE:
            return "a file" if path.is_file() else "it"
        for folder in reversed(path.parents):
            if not folder.exists():
                return f"the folder {folder}"
            if not folder.is_dir():
                return str(folder)
    return "it"
