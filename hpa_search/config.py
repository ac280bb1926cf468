"""Every setting of one trial, as a frozen record that is checked when built."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Record(BaseModel):
    """A frozen record; an unknown field, or a value of another type or out of its range, is an error when it is built.

    Nothing is converted: neither '3' nor true is a number.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)


class TrialConfig(Record):
    """One configuration of the network and its training.

    Sizes are in pixels. ``full_size`` is the size at which the strategies `gap` and `extra_blocks` see an
    image; `downsize` sees it at ``small_size``. ``gamma`` belongs to the focal loss alone.
    """

    backbone: str = "resnet18"
    resolution: Literal["downsize", "gap", "extra_blocks"] = "downsize"
    full_size: int = Field(default=512, ge=32, le=4096)
    small_size: int = Field(default=224, ge=32, le=4096)
    channels: Literal["rgby", "rgb", "green"] = "rgb"
    loss: Literal["bce", "focal"] = "bce"
    gamma: float | None = Field(default=None, ge=0, le=10)
    class_weights: Literal["none", "ln", "1-f"] = "none"
    optimizer: Literal["adam", "adamw"] = "adamw"
    learning_rate: float = Field(default=1e-3, gt=0, le=1)
    weight_decay: float = Field(default=1e-2, ge=0, le=1)
    schedule: Literal["constant", "cosine"] = "cosine"
    warmup_epochs: float = Field(default=0.0, ge=0, le=100)
    batch_size: int = Field(default=32, ge=2, le=4096)
    augment: Literal["none", "flips", "dihedral"] = "dihedral"
    dropout: float = Field(default=0.0, ge=0, lt=1)

    @model_validator(mode="before")
    @classmethod
    def _default_gamma(cls, values: Any) -> Any:
        """Focal loss without a gamma takes the 2 of Lin et al. 2017."""
        if isinstance(values, dict) and values.get("loss") == "focal" and values.get("gamma") is None:
            return {**values, "gamma": 2.0}
        return values

    @model_validator(mode="after")
    def _consistent(self) -> "TrialConfig":
        if self.loss != "focal" and self.gamma is not None:
            raise ValueError(
                f"gamma is set but loss is '{self.loss}'; gamma belongs to loss 'focal' (give it 'when: {{loss: focal}}')"
            )
        if self.resolution == "downsize" and self.small_size > self.full_size:
            raise ValueError(f"small_size {self.small_size} is larger than full_size {self.full_size}")
        return self

    @property
    def input_size(self) -> int:
        """Height and width in pixels of the images that the network sees."""
        return self.small_size if self.resolution == "downsize" else self.full_size
