"""A YAML file as plain values: mappings, lists, text and numbers. A file that could swamp or surprise its reader is refused."""

import re
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.representer import SafeRepresenter

from hpa_search.errors import UserError
from hpa_search.system_errors import refused

LARGEST = 100_000
"""The most characters of a file."""
MOST_VALUES = 20_000
"""The most values in a file. An alias counts at each use: nine levels of nine aliases are 400 million values."""
DEEPEST = 20
LONGEST_TEXT = 200
LINE = 120
"""The most characters of a written line, where possible."""


def read_text(path: Path) -> str:
    """Return the text of a file. Raises UserError if it cannot be read, or is too large for a search space."""
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"{path} is not a file; give a search-space file such as search_spaces/demo.yaml")
        if path.stat().st_size > 4 * LARGEST:
            raise UserError(f"{path}: too large for a search-space file ({path.stat().st_size:,} bytes)")
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise refused(error, path, doing="the search-space file cannot be read") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a text file (byte {error.start} is not UTF-8); give a search-space file") from None


def load_mapping(text: str, where: str) -> dict[str, Any]:
    """Return the mapping in a YAML 1.2 text, with tuples for its lists; ``where`` names the file in messages.

    Raises UserError if the text is not YAML or not a mapping, is too large or too deep, or holds dates, bytes or odd keys.
    """
    if len(text) > LARGEST:
        raise UserError(f"{where}: too large for a search-space file ({len(text):,} characters; at most {LARGEST:,})")
    try:
        content = YAML(typ="safe", pure=True).load(text)
    except RecursionError:
        raise UserError(f"{where}: nested too deeply; a search-space file has {DEEPEST} levels at most") from None
    except (YAMLError, ValueError, ArithmeticError, LookupError, TypeError, AttributeError, AssertionError) as error:
        raise UserError(f"{where}{_fault(error)}") from None
    if not isinstance(content, dict):
        raise UserError(f"{where}: expected a mapping with 'name', 'space' and 'budget' at the top; see search_spaces/demo.yaml")
    return _Plain(where).copy(content, ())


def dump_mapping(content: dict[str, Any]) -> str:
    """Return a YAML text that `load_mapping` reads back as ``content``. Tuples are written as lists."""
    yaml = YAML(typ="safe", pure=True)
    yaml.Representer = _Representer
    yaml.default_flow_style, yaml.width = None, LINE
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # keys stay in their order
    yaml.representer.ignore_aliases = lambda _: True
    text = StringIO()
    yaml.dump(content, text)
    return text.getvalue()


PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./+-]*")
"""Text without quotes; of these words ruamel quotes those that mean something else, such as null."""


class _Representer(SafeRepresenter):
    """Quotes all text but plain words. By default some signs, such as `:` and `?`, are written in a way that is not read back."""

    def represent_str(self, data: str) -> Any:
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=None if PLAIN.fullmatch(data) else '"')


_Representer.add_representer(str, _Representer.represent_str)


def _fault(error: Exception) -> str:
    """Return the line and column of a fault, and the fault itself."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0] or type(error).__name__
    hint = "; indent with spaces, not with tabs" if "'\\t'" in problem else ""
    return f"{f', line {mark.line + 1}, column {mark.column + 1}' if mark else ''}: not valid YAML: {problem}{hint}"


class _Plain:
    """Copies the content of a file, and counts its values."""

    def __init__(self, where: str) -> None:
        self._where, self._left = where, MOST_VALUES

    def copy(self, value: Any, path: tuple[str, ...]) -> Any:
        """Return a copy of ``value`` with lists as tuples. Raises UserError naming the key at fault."""
        self._left -= 1
        if self._left < 0 or len(path) > DEEPEST:
            raise UserError(f"{self._where}: too large or nested too deeply for a search-space file (see its aliases, if any)")
        if isinstance(value, dict):
            return {self._key(key, path): self.copy(inner, (*path, key)) for key, inner in value.items()}
        if isinstance(value, list):
            return tuple(self.copy(inner, (*path, str(index))) for index, inner in enumerate(value))
        self._check_scalar(value, path)
        return value

    def _key(self, key: Any, path: tuple[str, ...]) -> str:
        if not isinstance(key, str):
            at = ".".join(path) or "at the top"
            raise UserError(f"{self._where}: {at}: the key {str(key)[:40]!r} is not text; put it in quotes to make it text")
        self._check_scalar(key, path)
        return key

    def _check_scalar(self, value: Any, path: tuple[str, ...]) -> None:
        fault = None
        if not isinstance(value, str | bool | int | float | None):
            fault = f"a {type(value).__name__} is not allowed here; give text or a number"
        elif isinstance(value, str) and (len(value) > LONGEST_TEXT or not value.isprintable()):
            fault = f"text must be printable and of {LONGEST_TEXT} characters at most"
        elif isinstance(value, int) and abs(value) >= 2**63:
            fault = "the number is too large"
        if fault:
            raise UserError(f"{self._where}: {'.'.join(path) or 'at the top'}: {fault}")
