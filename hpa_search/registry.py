"""Named alternatives of one setting, each registered where it is written."""

from collections.abc import Callable
from typing import TypeVar

from hpa_search.errors import nearest

T = TypeVar("T")


class Registry(dict[str, T]):
    """What each value of ``setting`` stands for; a new value is a function under `register`, and nothing else.

    Looking up a value that is not there raises ValueError naming the setting, the value and what there is.
    """

    def __init__(self, setting: str) -> None:
        super().__init__()
        self.setting = setting

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that registers what it decorates as ``name``."""

        def add(entry: T) -> T:
            assert name not in self, f"{self.setting} '{name}' is registered twice"
            self[name] = entry
            return entry

        return add

    def fault(self, name: str) -> str:
        """Return what is wrong with ``name``, or an empty string."""
        if name in self:
            return ""
        known = ", ".join(f"'{known}'" for known in self)
        return f"expected one of {known} (given: {name!r}){nearest(name, self)}"

    def __missing__(self, name: str) -> T:
        raise ValueError(f"{self.setting}: {self.fault(name)}")
