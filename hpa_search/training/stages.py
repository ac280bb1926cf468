"""The stages of a trial: it may free frozen layers after some epochs, and end with a second stage.

A stage is a pure function of the epoch, so that a resumed trial repeats exactly.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from hpa_search.config import CONDITIONS, TrialConfig


@dataclass(frozen=True)
class Stage:
    """The settings of an epoch: the configuration whose loss and schedule count, and its `freeze`.

    ``epoch`` counts from 1 within the stage's ``epochs``.
    """

    config: TrialConfig
    freeze: str
    epoch: int
    epochs: int


def stage_of(config: TrialConfig, epoch: int, epochs: int) -> Stage:
    """Return the stage of ``epoch``, counted from 1, of a trial whose top rung has ``epochs``.

    The last ``config.last_epochs`` of them are the second stage. A top rung without further epochs has no first stage.
    """
    first = max(0, epochs - config.last_epochs)
    if epoch > first:
        return Stage(_second(config), str(config.last_freeze), epoch - first, epochs - first)
    frozen = config.freeze_epochs is None or epoch <= config.freeze_epochs
    return Stage(config, config.freeze if frozen else "none", epoch, first)


def _second(config: TrialConfig) -> TrialConfig:
    """Return the second stage's configuration: its own loss, with that loss's default settings, at a constant rate."""
    changes = {"loss": config.last_loss, "learning_rate": config.last_learning_rate, "schedule": "constant", "warmup_epochs": 0.0}
    kept = {name: value for name, value in config.model_dump().items() if not _depends(name, changes)}
    return TrialConfig.model_validate({**kept, **changes})


def _depends(name: str, changes: Mapping[str, object]) -> bool:
    return name in CONDITIONS and CONDITIONS[name].parent in changes
