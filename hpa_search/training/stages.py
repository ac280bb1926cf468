"""What an epoch trains with: a trial may free frozen layers after some epochs, and end with a second stage.

A pure function of the epoch, so that a resumed trial goes on exactly.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from hpa_search.config import CONDITIONS, TrialConfig


@dataclass(frozen=True)
class Stage:
    """The configuration whose loss and schedule count, what is frozen, and the stage's own epochs.

    ``epoch`` counts from 1 within the stage, of ``epochs``.
    """

    config: TrialConfig
    freeze: str
    epoch: int
    epochs: int


def stage_of(config: TrialConfig, epoch: int, epochs: int) -> Stage:
    """Return the stage of ``epoch``, from 1, of a trial whose top rung has ``epochs``.

    The last ``config.last_epochs`` of them are the second stage. A top rung of no more epochs than that has no first.
    """
    first = max(0, epochs - config.last_epochs)
    if epoch > first:
        return Stage(_second(config), str(config.last_freeze), epoch - first, epochs - first)
    frozen = config.freeze_epochs is None or epoch <= config.freeze_epochs
    return Stage(config, config.freeze if frozen else "none", epoch, first)


def _second(config: TrialConfig) -> TrialConfig:
    """Return the configuration of the second stage: its own loss, with that loss's defaults, at a constant rate."""
    changes = {"loss": config.last_loss, "learning_rate": config.last_learning_rate, "schedule": "constant", "warmup_epochs": 0.0}
    kept = {name: value for name, value in config.model_dump().items() if not _depends(name, changes)}
    return TrialConfig.model_validate({**kept, **changes})


def _depends(name: str, changes: Mapping[str, object]) -> bool:
    return name in CONDITIONS and CONDITIONS[name].parent in changes
