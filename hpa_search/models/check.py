"""Check that a configuration's network can be built and takes its images.

Networks run on torch's meta device, which computes shapes alone. A new combination of backbone, strategy and size takes a
fraction of a second. Weights take no memory. Every answer is cached.
"""

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from functools import cache, wraps

import timm
import torch
from torch import Tensor

from hpa_search.config import TrialConfig
from hpa_search.errors import nearest
from hpa_search.labels import NUM_LABELS
from hpa_search.models.channels import parse_channels, parse_normalisation
from hpa_search.models.create import RGB, cause, meta_backbone, published, usual_size
from hpa_search.models.freezing import FREEZES
from hpa_search.models.heads import build_head
from hpa_search.models.resolution import further_blocks, like
from hpa_search.models.weights import check_published, check_stem


def check_network(config: TrialConfig) -> None:
    """Refuse a configuration whose network cannot be built or cannot take its images.

    Raises ValueError: one line that begins with the setting. `weights.check_weights` checks the weights of a file or the hub.
    """
    with _refusing("channels"):
        channels = len(parse_channels(config.channels))
    with _refusing("normalise"):
        parse_normalisation(config.normalise)
    _check_name(config.backbone)
    backbone, resolution, size = config.backbone, config.resolution, config.network_size
    _check_features(backbone, resolution, size)
    _check_head(backbone, resolution, size, config.head, _dropout_that_matters(config))
    _check_channels(backbone, channels)
    for setting, freeze in (("freeze", config.freeze), ("last_freeze", config.last_freeze)):
        if freeze is not None:
            _check_freeze(setting, backbone, freeze)
    if config.weights != "none":
        _check_stem(backbone, channels, str(config.stem))
    if config.weights == "timm":
        _check_published(backbone, like(resolution), size if published(backbone).fixed_input_size else usual_size(backbone))


def _cached(check: Callable[..., None]) -> Callable[..., None]:
    """Return ``check`` with its outcome cached, whether it passes or raises ValueError."""

    @cache
    def fault(*arguments: Hashable) -> str:
        try:
            check(*arguments)
        except ValueError as error:
            return str(error)
        return ""

    @wraps(check)
    def again(*arguments: Hashable) -> None:
        if text := fault(*arguments):
            raise ValueError(text)

    return again


@contextmanager
def _refusing(setting: str, what: str = "") -> Iterator[None]:
    """Turn any error into a ValueError of one line: "setting: what: cause".

    A line that begins with the setting already stays as it is.
    """
    try:
        with torch.no_grad():
            yield
    except Exception as error:  # each of timm's models fails in its own way
        line = cause(error)
        if not line.startswith(f"{setting}: "):
            line = ": ".join(filter(None, (setting, what, line)))
        raise ValueError(line) from error


@_cached
def _check_name(backbone: str) -> None:
    if not timm.is_model(backbone):
        raise ValueError(f"backbone: timm knows no model '{backbone}'{nearest(backbone, timm.list_models())}")
    with _refusing("backbone"):
        published(backbone)


@_cached
def _check_features(backbone: str, resolution: str, size: int) -> None:
    _features(backbone, resolution, size)


@cache
def _features(backbone: str, resolution: str, size: int) -> Tensor:
    """Return the features of two images, on the meta device, as the head gets them. Raises ValueError if there are none."""
    what = f"'{backbone}' does not work with resolution '{resolution}' at {size} pixels"
    with _refusing("backbone", what), torch.device("meta"):
        width, features = _features_before_blocks(backbone, like(resolution), size)
        if resolution == "extra_blocks":
            _require_map(tuple(features.shape), width)
        followed: Tensor = further_blocks(resolution, width).eval()(features)
    return followed


@cache
def _features_before_blocks(backbone: str, resolution: str, size: int) -> tuple[int, Tensor]:
    made = meta_backbone(backbone, resolution, size)
    if len(made.state_dict()) != len({id(value) for value in made.state_dict(keep_vars=True).values()}):
        raise ValueError("some of its layers share their weights, which a checkpoint cannot hold")
    return made.num_features, made.forward_features(torch.empty(2, RGB, size, size))


def _require_map(shape: tuple[int, ...], width: int) -> None:
    """Refuse features that are not a map (b, width, h, w): convolutions need a map."""
    if len(shape) != 4 or shape[1] != width:
        raise ValueError(
            f"its features have shape {shape[1:]} and are not a channels x height x width map, so no blocks can be appended"
        )


@_cached
def _check_head(backbone: str, resolution: str, size: int, head: str, dropout: float) -> None:
    what = f"'{head}' does not work with backbone '{backbone}' and resolution '{resolution}' at {size} pixels"
    with _refusing("head", what), torch.device("meta"):
        made, config = meta_backbone(backbone, resolution, size), TrialConfig(backbone=backbone, head=head, dropout=dropout)
        logits = build_head(made, made.num_features, config).eval()(_features(backbone, resolution, size))
        if logits.shape != (2, NUM_LABELS):
            raise ValueError(f"its outputs have shape {tuple(logits.shape[1:])}; expected {NUM_LABELS}, one for each label")


def _dropout_that_matters(config: TrialConfig) -> float:
    """Return the dropout if it decides whether a head fits, else 0. So all dropouts share a cached answer."""
    made = meta_backbone(config.backbone, config.resolution, config.network_size)
    return config.dropout if hasattr(made, "label_head") else 0.0


@_cached
def _check_channels(backbone: str, channels: int) -> None:
    """Refuse a number of channels that the first layer cannot have. No other layer depends on it, so the usual size will do."""
    size = usual_size(backbone)
    with _refusing("channels", f"backbone '{backbone}' does not work with {channels} of them"), torch.device("meta"):
        meta_backbone(backbone, "downsize", size, channels).forward_features(torch.empty(2, channels, size, size))


@_cached
def _check_freeze(setting: str, backbone: str, freeze: str) -> None:
    if fault := FREEZES.fault(freeze):
        raise ValueError(f"{setting}: {fault}")
    with _refusing(setting, f"'{freeze}' does not go with backbone '{backbone}'"):
        FREEZES[freeze](meta_backbone(backbone, "downsize", usual_size(backbone)))


@_cached
def _check_stem(backbone: str, channels: int, stem: str) -> None:
    with _refusing("stem", f"'{stem}' does not go with backbone '{backbone}'"):
        check_stem(backbone, channels, stem)


@_cached
def _check_published(backbone: str, resolution: str, size: int) -> None:
    with _refusing("weights", f"those of timm for '{backbone}' do not fit resolution '{resolution}' at {size} pixels"):
        check_published(backbone, resolution, size)
