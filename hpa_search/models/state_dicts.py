"""The weights within what a training program saved: a state_dict, or a checkpoint that has one somewhere in it."""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

KNOWN = (
    *("state_dict_ema", "state_dict", "model_ema", "model", "network"),
    *("params_ema", "ema_state_dict", "ema_model", "ema", "model_state_dict", "model_state", "net", "net_state_dict", "params"),
    *("module", "weights", "teacher", "student", "backbone", "encoder", "trunk"),
)
"""Where checkpoints keep a model's weights: of several that are there, the first of these is taken."""
BESIDE = ("optim", "sched", "scaler", "loss", "criterion", "rng")
"""Parts of the names of what has tensors too and is no model."""
MOSTLY = 0.9
"""The share of tensors among its values that makes a mapping a state_dict."""
DEEPEST = 5
SHOWN = 10


def find_state(content: Any) -> dict[str, Tensor]:
    """Return the tensors of the state_dict that ``content`` is or has in it, by name.

    Of several in one mapping the only one, or else the first that is KNOWN, is taken. Raises ValueError, in words that go
    after the name of a file, where there is none, or none among several can be chosen.
    """
    for _ in range(DEEPEST):
        if _is_state(content):
            break
        within = {name: value for name, value in _parts(content) if _holds_state(value, DEEPEST)}
        if not within:
            break
        content = within[_chosen(within)]
    tensors = {name: value for name, value in _parts(content) if isinstance(value, Tensor)}
    if not tensors:
        raise ValueError(_nothing(content))
    return tensors


def _parts(content: Any) -> list[tuple[str, Any]]:
    """Return what a mapping has under names, or what is within the mappings of a list; not what goes beside a model."""
    if isinstance(content, list | tuple):
        return [(f"[{place}]", value) for place, value in enumerate(content) if isinstance(value, Mapping)]
    named = content.items() if isinstance(content, Mapping) else ()
    return [
        (name, value)
        for name, value in named
        if isinstance(name, str) and (isinstance(value, Tensor) or not any(part in name.lower() for part in BESIDE))
    ]


def _is_state(content: Any) -> bool:
    if not isinstance(content, Mapping) or not content:
        return False
    tensors = sum(isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items())
    return tensors >= max(1, MOSTLY * len(content))


def _holds_state(content: Any, depth: int) -> bool:
    if isinstance(content, Tensor) or not depth:  # a file may hold a mapping that is within itself
        return False
    return _is_state(content) or any(_holds_state(value, depth - 1) for _, value in _parts(content))


def _chosen(within: Mapping[str, Any]) -> str:
    if len(within) == 1:
        return next(iter(within))
    if known := [name for name in KNOWN if name in within]:
        return known[0]
    raise ValueError(f"holds several sets of weights: {_quoted(within)}; save the one that is meant by itself")


def _nothing(content: Any) -> str:
    """Say what ``content`` is, which has no weights by name."""
    if isinstance(content, list | tuple) and content and all(isinstance(value, Tensor) for value in content):
        what = f"it is a {type(content).__name__} of {len(content)} tensors without names"
    elif isinstance(content, Mapping):
        what = f"its keys are {_quoted(content)}" if content else "it is an empty mapping"
    else:
        what = f"it is of type {type(content).__name__}"
    return f"has no weights in it that have names: {what}; save the model's state_dict()"


def _quoted(names: Iterable[Any]) -> str:
    shown = [repr(name)[:60] for name in names]
    return ", ".join(shown[:SHOWN]) + (f" and {len(shown) - SHOWN} more" if len(shown) > SHOWN else "")
