"""Registries: the named values of a setting, each registered where it is implemented."""

import importlib
import pkgutil
import re
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from hpa_search.errors import nearest

T = TypeVar("T")


class Registry(dict[str, T]):
    """The values of ``setting`` and their implementations, in the order of registration.

    A new value is a documented function under `register`, and nothing else. ``about`` maps each name to a line for help texts
    and tables. An unknown name raises ValueError with the setting and the known names.

        @LOSSES.register("bce")
        def _bce(...): ...  # LOSSES["bce"] is this function, LOSSES.about["bce"] its first docstring line
    """

    def __init__(self, setting: str) -> None:
        super().__init__()
        self.setting = setting
        self.about: dict[str, str] = {}

    def register(self, name: str, about: str = "") -> Callable[[T], T]:
        """Return a decorator that registers an entry as ``name``. ``about`` defaults to its `summary`."""

        def add(entry: T) -> T:
            assert name not in self, f"{self.setting} '{name}' is registered twice"
            self[name] = entry
            self.about[name] = about or summary(entry)
            return entry

        return add

    def fault(self, name: str) -> str:
        """Return why ``name`` is refused, or an empty string if it is registered."""
        if name in self:
            return ""
        known = ", ".join(f"'{known}'" for known in self)
        return f"expected one of {known} (given: {name!r}){nearest(name, self)}"

    def __missing__(self, name: str) -> T:
        raise ValueError(f"{self.setting}: {self.fault(name)}")


def summary(entry: Any) -> str:
    """Return the first line of the docstring of ``entry``, without capital and full stop."""
    line = (entry.__doc__ or "").strip().partition("\n")[0].removesuffix(".")
    # An ordinary word loses its capital; "ReLU" and "S2's" keep theirs.
    return line[:1].lower() + line[1:] if re.match(r"[A-Z][a-z]*\b(?!')", line) else line


def register_all(package: str, path: Iterable[str], first: str = "") -> None:
    """Import every module of ``package``, so that its entries register.

    The module ``first`` comes first, the others by name. ``path`` is the package's `__path__`.
    """
    names = sorted((module.name for module in pkgutil.iter_modules(path)), key=lambda name: (name != first, name))
    for name in names:
        importlib.import_module(f"{package}.{name}")
