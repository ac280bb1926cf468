"""Pretrained weights: those of a local file, or those of timm's hub for the backbone.

They are for three channels: red, green and blue. If a network sees other channels, `STEMS` adapt the first convolution.
"""

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from timm.models import adapt_input_conv
from torch import Tensor, nn

from hpa_search.config import TrialConfig
from hpa_search.errors import UserError
from hpa_search.models.channels import parse_channels
from hpa_search.models.create import RGB, cause, create_published, first_layers, meta_backbone, published, usual_size
from hpa_search.models.hub import HubAway, is_away, require_reachable
from hpa_search.models.matching import COUNTER, Shapes, match
from hpa_search.models.weights_file import format_of, read_shapes, read_tensors
from hpa_search.registry import Registry
from hpa_search.storage.patience import patiently
from hpa_search.system_errors import hides_content, refused

FROM_FILE = "on a machine that reaches it, download the weights, and give the file: weights: /path/to/file"

STEMS: Registry[Callable[[Tensor, int], Tensor]] = Registry("stem")
"""Each entry extends the weight (o, 3, k, k) of a first convolution to four or more channels, (o, channels, k, k)."""


@STEMS.register("mean_rgb")
def _mean_rgb(weight: Tensor, channels: int) -> Tensor:
    """Give each channel beyond the third the mean of the three (S4)."""
    return _extended(weight, weight.mean(dim=1, keepdim=True), channels)


@STEMS.register("copy_red")
def _copy_red(weight: Tensor, channels: int) -> Tensor:
    """Give each channel beyond the third the weights of the first (the competition's winner, and its third place)."""
    return _extended(weight, weight[:, :1], channels)


@STEMS.register("zeros")
def _zeros(weight: Tensor, channels: int) -> Tensor:
    """Give each channel beyond the third weights of 0."""
    return _extended(weight, torch.zeros_like(weight[:, :1]), channels)


@STEMS.register("timm")
def _timm(weight: Tensor, channels: int) -> Tensor:
    """Repeat the three and scale all by 3 / channels, which keeps the size of their sum."""
    adapted: Tensor = adapt_input_conv(channels, weight)
    return adapted


def _extended(weight: Tensor, further: Tensor, channels: int) -> Tensor:
    return torch.cat([weight, further.expand(-1, channels - RGB, -1, -1)], dim=1)


def for_channels(weight: Tensor, channels: int, stem: str) -> Tensor:
    """Return the weight (o, channels, k, k) of a first convolution, made from ``weight`` (o, 3, k, k).

    Three channels keep the weight. For more channels ``stem`` decides. One or two channels leave it nothing to add, so timm's
    rule applies. It takes the sum of the three, or the first two times 3/2.
    """
    if channels == RGB:
        return weight
    return _timm(weight, channels) if channels < RGB else STEMS[stem](weight, channels)


def check_stem(backbone: str, channels: int, stem: str) -> None:
    """Refuse a backbone whose first convolution ``stem`` cannot adapt to ``channels``. Raises ValueError."""
    STEMS[stem]  # raises ValueError for an unknown name
    if channels == RGB:
        return
    layers, state = first_layers(backbone), _wanted(backbone, "downsize", usual_size(backbone))
    if not layers:
        raise ValueError(f"timm does not name its first layer, which would have to take {channels} channels")
    for layer in layers:
        shape = state.get(f"{layer}.weight", ())
        if len(shape) != 4 or shape[1] != RGB:
            raise ValueError(f"its first layer '{layer}' has weights of shape {shape}, not of a convolution of three channels")


def check_published(backbone: str, resolution: str, size: int) -> None:
    """Refuse a backbone if timm has no weights of it, or if they do not fit strategy and ``size``.

    Nothing is fetched: the backbone gets tensors of the published shapes. Raises ValueError for missing weights. Raises timm's
    error for weights that do not fit.
    """
    if not published(backbone).has_weights:
        raise ValueError(f"weights: timm has none of '{backbone}'; set 'none', or the path of a file")
    usual = meta_backbone(backbone, "downsize", usual_size(backbone)).state_dict()
    try:
        with torch.device("meta"):
            create_published(backbone, resolution, size, state=dict(usual))
    except Exception:  # some models resize with numbers, so their errors on the meta device mean nothing: retry with zeros
        zeros = {name: torch.zeros((), dtype=tensor.dtype).expand(tensor.shape) for name, tensor in usual.items()}
        with torch.random.fork_rng(devices=[]):
            create_published(backbone, resolution, size, state=zeros)


def load_pretrained(network: nn.Module, config: TrialConfig) -> None:
    """Load the weights that ``config.weights`` names into the backbone of ``network`` (see `models.build`).

    Head, further blocks, input stage, and the state of torch's random generator stay unchanged. Raises UserError as
    `check_weights` does.
    """
    if config.weights == "none":
        return
    state = pretrained_state(config)
    backbone, channels = network.get_submodule("backbone"), len(parse_channels(config.channels))
    for layer in first_layers(config.backbone) if channels != RGB else ():
        weight = state[f"{layer}.weight"]
        if weight.shape != backbone.get_parameter(f"{layer}.weight").shape:
            state[f"{layer}.weight"] = for_channels(weight, channels, str(config.stem))
    # Not strict, because the state lacks batch counters.
    backbone.load_state_dict(state, strict=False)


def pretrained_state(config: TrialConfig) -> dict[str, Tensor]:
    """Return the weights that ``config.weights`` names, for three channels, by the backbone's own names.

    The first layer of a file may have the network's own channels, as in a trained network. Then it stays unchanged. If the hub
    is away, the call retries: a short outage must not end a search of days. Raises UserError as `check_weights` does.
    """
    if config.weights == "timm":
        return patiently(
            lambda: _published_state(config), "timm's hub", transient=lambda error: isinstance(error, HubAway), hint=FROM_FILE
        )
    tensors = read_tensors(_path(config.weights))
    return {name: tensors[found] for name, found in _fitting(_shapes(tensors.items()), config).items()}


def check_weights(config: TrialConfig) -> None:
    """Refuse the weights that ``config.weights`` names if they cannot be loaded, or do not fit.

    Of a file only names and shapes are read. Weights of the hub are fetched into its cache. An unreachable hub fails within
    seconds. Raises UserError.
    """
    if config.weights == "timm":
        _published_state(config)
    elif config.weights != "none":
        _fitting(read_shapes(_path(config.weights)), config)


def _wanted(backbone: str, resolution: str, size: int) -> Shapes:
    """Return the names and shapes of the backbone's tensors for three channels, without batch counters."""
    tensors = meta_backbone(backbone, resolution, size).state_dict().items()
    return _shapes((name, tensor) for name, tensor in tensors if not name.endswith(COUNTER))


def _shapes(tensors: Iterable[tuple[str, Tensor]]) -> Shapes:
    return {name: tuple(tensor.shape) for name, tensor in tensors}


def _fitting(found: Shapes, config: TrialConfig) -> dict[str, str]:
    """Return, for each name of the backbone, the name of its tensor among those ``found`` in the file."""
    rgb = _wanted(config.backbone, config.resolution, config.network_size)
    channels, own = len(parse_channels(config.channels)), dict(rgb)
    for layer in first_layers(config.backbone) if channels != RGB else ():
        leaving, _, *kernel = rgb[f"{layer}.weight"]
        own[f"{layer}.weight"] = (leaving, channels, *kernel)
    further = {"classifier": published(config.backbone).classifier, "ordered": format_of(Path(config.weights)) == "torch"}
    try:
        try:
            return match(found, own, **further)
        except ValueError:
            return match(found, rgb, **further)
    except ValueError as error:
        raise UserError(f"weights: {config.weights} does not fit the backbone '{config.backbone}': {error}") from None


def _path(weights: str) -> Path:
    path = Path(weights)
    if not path.is_absolute():
        raise UserError(
            f"weights: expected none, timm, or the absolute path of a file that every machine of the search can read "
            f"(given: {weights!r})"
        )
    try:
        path.stat()
    except OSError as error:
        if hides_content(error):
            raise refused(error, path, doing="weights: the file cannot be read") from None
        there = "; the path is a broken link" if os.path.islink(path) else ""  # noqa: PTH114  # Path.is_symlink raises what stat did
        raise UserError(f"weights: there is no file {path} on this machine{there}") from None
    if not path.is_file():
        raise UserError(f"weights: {path} is not a file{'; give the file in this folder' if path.is_dir() else ''}")
    return path


def _published_state(config: TrialConfig) -> dict[str, Tensor]:
    """Return the hub's weights of the backbone, resized to the network.

    Raises HubAway if the hub may answer later, and UserError for any other failure.
    """
    require_reachable(config.backbone)
    try:
        with torch.random.fork_rng(devices=[]):
            made = create_published(config.backbone, config.resolution, config.network_size)
    except Exception as error:  # of the hub, of the file, or of the model
        kind = HubAway if is_away(error) else UserError
        raise kind(f"weights: those of timm for '{config.backbone}' cannot be loaded: {cause(error)}") from None
    return {name: tensor for name, tensor in made.state_dict().items() if not name.endswith(COUNTER)}
