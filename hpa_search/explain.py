"""Messages about an invalid record: the key, the allowed values, and the given value."""

from collections.abc import Iterable, Iterator, Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from hpa_search.errors import UserError, nearest

_NAMES: dict[Any, str] = {str: "text", bool: "true or false", int: "a whole number", float: "a number"}
_BOUNDS = ((Ge, "ge", "at least"), (Gt, "gt", "above"), (Le, "le", "at most"), (Lt, "lt", "below"))
_LONGEST = 80


def explain(error: ValidationError, where: str, model: type[BaseModel]) -> UserError:
    """Return pydantic's errors as one UserError, a line a fault. ``where`` names the file, ``model`` the record."""
    return UserError("\n".join(f"{where}: {line}" for line in faults(error, model)))


def faults(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """Return a line for each fault: its key, the allowed values, and the given value.

    Faults in several branches of a union share a line.
    """
    return list(dict.fromkeys(_line(fault, model) for fault in error.errors(include_url=False)))


def allowed(field: FieldInfo) -> str:
    """Return what ``field`` takes: its description if it has one, else its type and range."""
    if field.description:
        return field.description
    options = [option for option in _options(field.annotation) if option is not NoneType]
    kinds = dict.fromkeys(_kind(option) for option in options if not (option is int and float in options))
    return " ".join([_either(kinds), *_bounds(field)])


def given(value: object) -> str:
    """Return ``value`` as it was given, cut if it is long."""
    text = repr(list(value) if isinstance(value, tuple) else value)
    return f"(given: {text if len(text) <= _LONGEST else text[: _LONGEST - 3] + '...'})"


def _either(words: Iterable[str]) -> str:
    *others, last = words
    return f"{', '.join(others)} or {last}" if others else last


def _line(fault: Any, model: type[BaseModel]) -> str:
    too_short = fault["type"] == "missing" and isinstance(fault["loc"][-1], int)
    path, field = _place(fault["loc"][:-1] if too_short else fault["loc"], model)
    if fault["type"] == "extra_forbidden":
        name, known = str(fault["loc"][-1]), _keys(field.annotation)
        what = f"unknown key{nearest(name, known) or '; known are ' + ', '.join(known)}"
        path = (*path, name)
    elif fault["type"] == "value_error":
        what = fault["msg"].removeprefix("Value error, ")
    elif fault["type"] == "json_invalid":
        what = f"not valid JSON ({fault['ctx']['error']})"
    elif fault["type"] == "missing" and not too_short:
        what = f"missing; expected {allowed(field)}"
    else:
        what = f"expected {allowed(field)} {given(fault['input'])}"
    return f"{'.'.join(path)}: {what}" if path else what


def _place(loc: tuple[int | str, ...], model: type[BaseModel]) -> tuple[tuple[str, ...], FieldInfo]:
    """Follow ``loc`` into ``model`` as far as it names keys; skip the branches of unions that pydantic adds."""
    path: tuple[str, ...] = ()
    field = FieldInfo.from_annotation(model)
    for part in loc:
        inner = next((found for option in _options(field.annotation) if (found := _inside(option, part))), None)
        if inner is None:
            break
        path, field = (*path, str(part)), inner
    return path, field


def _inside(annotation: Any, part: int | str) -> FieldInfo | None:
    """Return the field under the key or index ``part`` of a record, a mapping or a list, or None."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation.model_fields.get(str(part))
    arguments = get_args(annotation)
    if _is_mapping(annotation):
        return FieldInfo.from_annotation(arguments[1])
    if get_origin(annotation) is tuple and isinstance(part, int):
        return FieldInfo.from_annotation(arguments[0])
    return None


def _keys(annotation: Any) -> list[str]:
    return [name for option in _options(annotation) for name in getattr(option, "model_fields", {})]


def _options(annotation: Any) -> tuple[Any, ...]:
    options = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    return tuple(get_args(option)[0] if get_origin(option) is Annotated else option for option in options)


def _is_mapping(annotation: Any) -> bool:
    origin = get_origin(annotation)
    return isinstance(origin, type) and issubclass(origin, Mapping)


def _kind(annotation: Any) -> str:
    """Return a type's name in plain words."""
    arguments = get_args(annotation)
    if get_origin(annotation) is Literal:
        return _either(map(repr, arguments))
    if get_origin(annotation) is tuple:
        return "a list" if Ellipsis in arguments else f"a list of {len(arguments)} {_NAMES[arguments[0]].split()[-1]}s"
    if keys := _keys(annotation):
        return f"a mapping with {', '.join(keys)}"
    return "a mapping" if _is_mapping(annotation) or annotation is dict else _NAMES.get(annotation, "another value")


def _bounds(field: FieldInfo) -> Iterator[str]:
    """Yield a field's range in words."""
    found = [
        f"{words} {getattr(entry, key)}" for kind, key, words in _BOUNDS for entry in field.metadata if isinstance(entry, kind)
    ]
    if found:
        yield " and ".join(found)
    if any(isinstance(entry, MinLen) for entry in field.metadata):
        yield "that is not empty"
