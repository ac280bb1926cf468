"""Calls of the operating system that are refused: in this process, on the paths that a pattern finds, with an errno."""

import builtins
import errno
import fcntl
import io
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Refusal:
    """What is refused: ``call`` on a path in which ``pattern`` is found, from the ``nth`` time on; ``met`` counts."""

    def __init__(self, call: str, number: int, pattern: str, nth: int = 1) -> None:
        self.call, self.number, self._pattern, self._nth = call, number, re.compile(pattern), nth
        self.met = 0

    def check(self, *paths: Any) -> None:
        """Raise OSError, naming the paths, if one of them is meant."""
        if self.means(*paths):
            names = [path for path in paths if not isinstance(path, int)]
            more = (None, os.fspath(names[1])) if len(names) > 1 else ()
            raise OSError(self.number, os.strerror(self.number), *(os.fspath(name) for name in names[:1]), *more)

    def means(self, *paths: Any) -> bool:
        """Whether a call on these paths, or open files, is refused."""
        found = any(self._pattern.search(_absolute(path)) for path in paths)
        self.met += found
        return found and self.met >= self._nth


def _absolute(path: Any) -> str:
    return str(Path(f"/proc/self/fd/{path}").readlink() if isinstance(path, int) else Path(os.fsdecode(path)).absolute())


@contextmanager
def refused(call: str, name: str, pattern: str, nth: int = 1) -> Iterator[Refusal]:
    """Refuse ``call`` with the errno ``name``: open, read (opening to read), write, fsync, rename, mkdir, unlink, list, lock."""
    refusal = Refusal(call, getattr(errno, name), pattern, nth)
    with pytest.MonkeyPatch.context() as patch:
        for module, function, replaced in _replacements(refusal):
            patch.setattr(module, function, replaced(getattr(module, function)))
        yield refusal


Replacement = tuple[Any, str, Callable[[Callable[..., Any]], Callable[..., Any]]]


def _replacements(refusal: Refusal) -> list[Replacement]:
    def first(real: Callable[..., Any]) -> Callable[..., Any]:
        """The first argument is what it is about."""

        def call(path: Any = ".", *rest: Any, **more: Any) -> Any:
            if more.get("dir_fd") is None:
                refusal.check(path)
            return real(path, *rest, **more)

        return call

    def both(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(source: Any, target: Any, **more: Any) -> Any:
            refusal.check(source, target)
            return real(source, target, **more)

        return call

    def opened(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any, mode: str = "r", *rest: Any, **more: Any) -> Any:
            if not isinstance(path, int) and (refusal.call == "open") == any(mark in mode for mark in "wax+"):
                refusal.check(path)
            return real(path, mode, *rest, **more)

        return call

    def opened_low(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any, flags: int, *rest: Any, **more: Any) -> Any:
            if more.get("dir_fd") is None and (refusal.call == "open") == bool(flags & _WRITES):
                refusal.check(path)
            return real(path, flags, *rest, **more)

        return call

    def written(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any, mode: str = "r", *rest: Any, **more: Any) -> Any:
            if isinstance(path, int) or not any(mark in mode for mark in "wax") or not refusal.means(path):
                return real(path, mode, *rest, **more)
            raw = _Refusing(path, mode.replace("b", "").replace("t", ""))
            raw.number = refusal.number
            buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
            return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding="utf-8", newline=more.get("newline"))

        return call

    def locked(real: Callable[..., Any]) -> Callable[..., Any]:
        """Giving a lock back is never refused."""

        def call(descriptor: int, operation: int) -> None:
            if operation != fcntl.LOCK_UN:
                refusal.check(descriptor)
            real(descriptor, operation)

        return call

    opens = [(io, "open", opened), (builtins, "open", opened), (os, "open", opened_low)]
    return {
        "open": opens,
        "read": opens,
        "write": [(io, "open", written), (builtins, "open", written), (os, "pwrite", first), (os, "write", first)],
        "fsync": [(os, "fsync", first)],
        "rename": [(os, "rename", both), (os, "replace", both)],
        "mkdir": [(os, "mkdir", first)],
        "unlink": [(os, "unlink", first), (os, "remove", first)],
        "list": [(os, "listdir", first), (os, "scandir", first)],
        "lock": [(fcntl, "flock", locked)],
    }[refusal.call]


class _Refusing(io.FileIO):
    """A file that is there and takes nothing."""

    number = errno.EIO

    def write(self, content: Any, /) -> int:
        raise OSError(self.number, os.strerror(self.number))
