"""Where Ray Train enters the workers of a slot.

Ray Train's controller imports this module as well, only to pass the function on. So nothing heavy is imported here: the loop and
the trials travel as bytes, and only a worker opens them, which imports torchvision, timm and scikit-learn.
"""

import traceback
from collections.abc import Callable
from typing import Any

import ray
from ray import cloudpickle
from ray.actor import ActorHandle

Loop = Callable[[ActorHandle, int, Any], None]
"""A worker's whole work: loop(mailbox, slot, trials)."""


def packed(loop: Loop, trials: Any) -> bytes:
    """Return the bytes from which `enter` runs ``loop`` with ``trials``."""
    return cloudpickle.dumps((loop, trials))


def enter(arguments: dict[str, Any]) -> None:
    """Run a worker. ``arguments``: `mailbox`, `slot`, and `work` from `packed`.

    Work that cannot be opened ends the slot's run: Ray Train would replace a worker that raises, for ever.
    """
    mailbox: ActorHandle = arguments["mailbox"]
    slot: int = arguments["slot"]
    try:
        loop, trials = cloudpickle.loads(arguments["work"])
    except Exception as error:
        ray.get(mailbox.cannot_begin.remote(slot, f"{type(error).__name__}: {error}"))
        traceback.print_exc()
        return
    loop(mailbox, slot, trials)
