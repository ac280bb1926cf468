"""Find the weights in a saved object: a state_dict, or a checkpoint that holds one."""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

KNOWN = (
    *("state_dict_ema", "state_dict", "model_ema", "model", "network"),
    *("params_ema", "ema_state_dict", "ema_model", "ema", "model_state_dict", "model_state", "net", "net_state_dict", "params"),
    *("module", "weights", "teacher", "student", "backbone", "encoder", "trunk"),
)
"""The names under which checkpoints keep a model's weights; the first name present wins."""
BESIDE = ("optim", "sched", "scaler", "loss", "criterion", "rng")
"""Parts of the names of other objects with tensors, which are not a model."""
MOSTLY = 0.9
"""A mapping is a state_dict if this share of its values are tensors."""
DEEPEST = 5
SHOWN = 10


def find_state(content: Any) -> dict[str, Tensor]:
    """Return the tensors of the state_dict in ``content``, by name.

    If a mapping holds several, the first in KNOWN wins. Raises ValueError if there is no state_dict, or no known one among
    several. The message continues a sentence that begins with the file's name.
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
    """Return the named values of a mapping, or the mappings in a list.

    Values that accompany a model, such as an optimizer's, are left out.
    """
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
    if isinstance(content, Tensor) or not depth:  # a file may hold a mapping that contains itself
        return False
    return _is_state(content) or any(_holds_state(value, depth - 1) for _, value in _parts(content))


def _chosen(within: Mapping[str, Any]) -> str:
    if len(within) == 1:
        return next(iter(within))
    if known := [name for name in KNOWN if name in within]:
        return known[0]
    raise ValueError(f"holds several sets of weights: {_quoted(within)}; save the intended one alone")


def _nothing(content: Any) -> str:
    """Return the message for ``content`` without named weights."""
    if isinstance(content, list | tuple) and content and all(isinstance(value, Tensor) for value in content):
        what = f"it is a {type(content).__name__} of {len(content)} tensors without names"
    elif isinstance(content, Mapping):
        what = f"its keys are {_quoted(content)}" if content else "it is an empty mapping"
    else:
        what = f"it is of type {type(content).__name__}"
    return f"holds no named weights: {what}; save the model's state_dict()"


def _quoted(names: Iterable[Any]) -> str:
    shown = [repr(name)[:60] for name in names]
    return ", ".join(shown[:SHOWN]) + (f" and {len(shown) - SHOWN} more" if len(shown) > SHOWN else "")
