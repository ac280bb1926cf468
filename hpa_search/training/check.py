"""Check that a configuration can be trained: its names are known, and its network fits its images."""

from collections.abc import Callable
from typing import Annotated

from pydantic import TypeAdapter, ValidationError

from hpa_search.config import TrialConfig, Value
from hpa_search.data.augment import AUGMENTATIONS
from hpa_search.data.sampling import SAMPLINGS
from hpa_search.explain import allowed, given
from hpa_search.models.channels import parse_channels, parse_normalisation
from hpa_search.models.check import check_network
from hpa_search.models.freezing import FREEZES
from hpa_search.models.heads import HEADS
from hpa_search.models.weights import STEMS
from hpa_search.registry import Registry
from hpa_search.training.class_weights import CLASS_WEIGHTS
from hpa_search.training.losses import LOSSES
from hpa_search.training.optim import OPTIMIZERS, SCHEDULES

NAMED: dict[str, Registry] = {
    "augment": AUGMENTATIONS,
    "sampling": SAMPLINGS,
    "stem": STEMS,
    "head": HEADS,
    "loss": LOSSES,
    "last_loss": LOSSES,
    "class_weights": CLASS_WEIGHTS,
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
    "freeze": FREEZES,
    "last_freeze": FREEZES,
}
"""The settings whose values are names, each with the registry of its names."""

PARSED: dict[str, Callable[[str], object]] = {"channels": parse_channels, "normalise": parse_normalisation}
"""The settings whose values are text with a grammar, each with its parser."""

STRUCTURAL = (
    *("backbone", "resolution", "full_size", "small_size", "crop_size", "channels", "normalise"),
    *("weights", "stem", "head", "hidden_size", "dropout", "freeze", "last_epochs", "last_freeze", "last_loss"),
)
"""The settings that decide whether a network can be built and trained. The other settings work with any network."""


def check_value(where: str, name: str, value: Value) -> None:
    """Raise ValueError that names ``where``, unless the setting ``name`` of a trial can have ``value``."""
    field = TrialConfig.model_fields[name]
    try:
        TypeAdapter(Annotated[field.annotation, field]).validate_python(value, strict=True)  # type: ignore[arg-type]
    except ValidationError:
        raise ValueError(f"{where}: expected {allowed(field)} {given(value)}") from None
    if value is not None and (fault := _fault(name, value)):
        raise ValueError(f"{where}: {fault}")


def check_trial(config: TrialConfig) -> None:
    """Raise ValueError that says what is wrong, unless ``config`` can be built and trained."""
    for name in (*NAMED, *PARSED):
        value = getattr(config, name)
        if value is not None and (fault := _fault(name, value)):
            raise ValueError(f"{name}: {fault}")
    check_network(config)


def _fault(name: str, value: Value) -> str:
    """Return what is wrong with ``value`` for the setting ``name``, or an empty string. Its type is already checked."""
    if name in NAMED:
        return NAMED[name].fault(str(value))
    if name in PARSED:
        try:
            PARSED[name](str(value))
        except ValueError as error:
            return str(error)
    return ""
