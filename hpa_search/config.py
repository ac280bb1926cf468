"""Every setting of one trial, as a frozen record that is checked when it is built.

The values of a named setting (`loss`, `head`, `sampling` ...) are registered where they are implemented.
`hpa_search.training.check` checks these names, and that the whole can be built. A setting that exists only beside some values
of another has a `When`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from hpa_search.rounding import settled

Value = str | bool | int | float | None

TestTime = Literal["none", "mean", "max"]
"""How a network scores an image: as it is, or by the mean or maximum over its eight mirrorings and quarter turns."""


class Record(BaseModel):
    """A frozen record. An unknown field, a wrong type or a value out of range is an error when it is built.

    Nothing is converted: neither '3' nor true is a number.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)


def bounded(default: Any = ..., *, ge: float | None = None, le: float | None = None, **options: Any) -> Any:
    """Return pydantic's Field for a float. A value beyond the bound ``ge`` or ``le`` by rounding alone is set to the bound."""
    field = Field(default, ge=ge, le=le, **options)
    field.metadata.append(BeforeValidator(partial(_settled, ge, le)))
    return field


def _settled(low: float | None, high: float | None, value: Any) -> Any:
    return settled(value, low, high) if isinstance(value, float) else value


@dataclass(frozen=True)
class When:
    """The condition of a setting that exists only beside certain values of ``parent``, and its default there.

    ``defaults`` maps those values to the default beside each. With ``unless``, the setting exists beside every other value of
    the parent, and its default is ``otherwise``.
    """

    parent: str
    defaults: Mapping[Value, Value] | None = None
    unless: Value = None
    otherwise: Value = None

    def holds(self, value: Value) -> bool:
        """Return whether the setting exists beside ``value`` of its parent."""
        return value in self.defaults if self.defaults is not None else value != self.unless

    def default(self, value: Value) -> Value:
        """Return the setting's default beside ``value`` of its parent."""
        return self.defaults[value] if self.defaults is not None else self.otherwise

    def __str__(self) -> str:
        if self.defaults is None:
            return f"{self.parent} other than {self.unless!r}"
        return f"{self.parent} {' or '.join(map(repr, self.defaults))}"


class TrialConfig(Record):
    """One configuration of the network and its training.

    Sizes are in pixels, lengths of training in epochs. A setting with a `When` is None where it does not exist.
    """

    # The input
    resolution: Literal["downsize", "gap", "extra_blocks", "crop"] = "downsize"
    full_size: int = Field(default=512, ge=32, le=4096)  # for all strategies but downsize
    small_size: int = Field(default=224, ge=32, le=4096)  # for downsize
    crop_size: Annotated[int | None, When("resolution", {"crop": 384})] = Field(default=None, ge=32, le=4096)
    channels: str = "rgb"
    normalise: str = "dataset"
    augment: str = "dihedral"
    sampling: str = "none"
    sampling_share: Annotated[float | None, When("sampling", {"minority": 0.01, "repeat_factor": 0.05})] = bounded(
        default=None, gt=0, le=1
    )
    sampling_copies: Annotated[int | None, When("sampling", {"minority": 10, "repeat_factor": 10})] = Field(
        default=None, ge=1, le=1000
    )

    # The network
    backbone: str = "resnet18"
    weights: str = "none"  # none, timm (its hub), or the absolute path of a file
    stem: Annotated[str | None, When("weights", unless="none", otherwise="mean_rgb")] = None
    head: str = "plain"
    hidden_size: Annotated[int | None, When("head", {"hidden": 512, "avg_max": 1024})] = Field(default=None, ge=1, le=65536)
    dropout: float = bounded(default=0.0, ge=0, lt=1)

    # The loss
    loss: str = "bce"
    gamma: Annotated[float | None, When("loss", {"focal": 2.0, "focal_poster_literal": 2.0})] = bounded(default=None, ge=0, le=10)
    gamma_positive: Annotated[float | None, When("loss", {"asymmetric": 1.0})] = bounded(default=None, ge=0, le=10)
    gamma_negative: Annotated[float | None, When("loss", {"asymmetric": 4.0})] = bounded(default=None, ge=0, le=10)
    probability_margin: Annotated[float | None, When("loss", {"asymmetric": 0.05})] = bounded(default=None, ge=0, lt=1)
    class_weights: str = "none"
    weight_site: Annotated[
        Literal["positive", "both"] | None,
        When("class_weights", {"full": "positive", "ln": "positive", "1-f": "both", "effective": "both"}),
    ] = None
    weight_power: Annotated[float | None, When("class_weights", {"1-f": 1.0})] = bounded(default=None, gt=0, le=10)
    weight_beta: Annotated[float | None, When("class_weights", {"effective": 0.999})] = bounded(default=None, ge=0, lt=1)

    # The optimisation
    optimizer: str = "adamw"
    learning_rate: float = bounded(default=1e-3, gt=0, le=1)
    momentum: Annotated[float | None, When("optimizer", {"sgd": 0.9})] = bounded(default=None, ge=0, lt=1)
    weight_decay: float = bounded(default=1e-2, ge=0, le=1)
    schedule: str = "cosine"
    schedule_epochs: Annotated[int | None, When("schedule", {"step": 10, "plateau": 3, "cosine_restarts": 10})] = Field(
        default=None, ge=1, le=100_000
    )
    schedule_factor: Annotated[float | None, When("schedule", {"step": 0.1, "plateau": 0.5})] = Field(default=None, gt=0, lt=1)
    warmup_epochs: float = bounded(default=0.0, ge=0, le=100)
    batch_size: int = Field(default=32, ge=2, le=4096)
    steps_per_epoch: int | None = Field(default=None, ge=1, le=1_000_000)  # None: every training row once
    clip_norm: float | None = bounded(default=None, gt=0, le=1e6)
    ema: float = bounded(default=0.0, ge=0, lt=1)  # decay of the averaged weights, which are scored and kept; 0: no average

    # The stages
    freeze: str = "none"
    freeze_epochs: Annotated[int | None, When("freeze", unless="none")] = Field(default=None, ge=1, le=100_000)  # None: all
    last_epochs: int = Field(default=0, ge=0, le=100_000)  # the top rung's last epochs, its second stage
    last_loss: Annotated[str | None, When("last_epochs", unless=0, otherwise="soft_f1")] = None
    last_freeze: Annotated[str | None, When("last_epochs", unless=0, otherwise="none")] = None
    last_learning_rate: Annotated[float | None, When("last_epochs", unless=0, otherwise=1e-4)] = bounded(default=None, gt=0, le=1)

    replicate: int = Field(default=0, ge=0, le=1_000_000)  # changes only the seed, to measure chance

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, values: Any) -> Any:
        """Give every missing setting that exists beside the others its default."""
        if not isinstance(values, dict):
            return values
        filled = dict(values)
        for name, when in CONDITIONS.items():
            parent = filled.get(when.parent, cls.model_fields[when.parent].default)
            if filled.get(name) is None and isinstance(parent, Value) and when.holds(parent):
                filled[name] = when.default(parent)
        return filled

    @model_validator(mode="after")
    def _consistent(self) -> "TrialConfig":
        for name, when in CONDITIONS.items():
            if getattr(self, name) is not None and not when.holds(parent := getattr(self, when.parent)):
                raise ValueError(
                    f"{name} is set but {when.parent} is {parent!r}; {name} belongs to {when} (give it a 'when', or leave it out)"
                )
        if self.crop_size is not None and self.crop_size > self.full_size:
            raise ValueError(f"crop_size {self.crop_size} is larger than full_size {self.full_size}; change one of them")
        return self

    @property
    def input_size(self) -> int:
        """Height and width in pixels of the images that the network gets, before it cuts any crops."""
        return self.small_size if self.resolution == "downsize" else self.full_size

    @property
    def network_size(self) -> int:
        """Height and width in pixels of the backbone's input."""
        return self.crop_size or self.input_size


CONDITIONS: dict[str, When] = {
    name: entry for name, field in TrialConfig.model_fields.items() for entry in field.metadata if isinstance(entry, When)
}
"""The settings that exist only beside certain values of another, each with its condition."""
