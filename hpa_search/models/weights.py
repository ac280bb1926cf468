"""Weights from elsewhere: a local file's, or those that timm's hub has by the backbone's name.

They come for three channels, red, green and blue. For a network that sees others, the first convolution is made of theirs:
see `STEMS`.
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
"""Each makes of a first convolution's weight (o, 3, k, k) one for four or more channels, (o, channels, k, k)."""


@STEMS.register("mean_rgb")
def _mean_rgb(weight: Tensor, channels: int) -> Tensor:
    """Give each channel beyond the third the mean of the three (S4)."""
    return _extended(weight, weight.mean(dim=1, keepdim=True), channels)


@STEMS.register("copy_red")
def _copy_red(weight: Tensor, channels: int) -> Tensor:
    """Give each channel beyond the third the first one's weights (the competition's winner, and its third place)."""
    return _extended(weight, weight[:, :1], channels)


@STEMS.register("zeros")
def _zeros(weight: Tensor, channels: int) -> Tensor:
    """Give each channel beyond the third no say at first."""
    return _extended(weight, torch.zeros_like(weight[:, :1]), channels)


@STEMS.register("timm")
def _timm(weight: Tensor, channels: int) -> Tensor:
    """Repeat the three and scale all by 3 / channels, so that the sum stays as large as it was."""
    adapted: Tensor = adapt_input_conv(channels, weight)
    return adapted


def _extended(weight: Tensor, further: Tensor, channels: int) -> Tensor:
    return torch.cat([weight, further.expand(-1, channels - RGB, -1, -1)], dim=1)


def for_channels(weight: Tensor, channels: int, stem: str) -> Tensor:
    """Return the weight of a first convolution for ``channels``, made of one for three, (o, 3, k, k).

    Three stay as they are. For one or two there is nothing to be added, so every ``stem`` does as timm does: the sum of the
    three, or the first two times 3/2. For more, ``stem`` decides.
    """
    if channels == RGB:
        return weight
    return _timm(weight, channels) if channels < RGB else STEMS[stem](weight, channels)


def check_stem(backbone: str, channels: int, stem: str) -> None:
    """Raise ValueError if the first convolution of ``backbone`` cannot be made one for ``channels`` as ``stem`` says."""
    STEMS[stem]  # an unknown name is told as such
    if channels == RGB:
        return
    layers, state = first_layers(backbone), _wanted(backbone, "downsize", usual_size(backbone))
    if not layers:
        raise ValueError(f"timm names no first layer of it, to be given {channels} channels")
    for layer in layers:
        shape = state.get(f"{layer}.weight", ())
        if len(shape) != 4 or shape[1] != RGB:
            raise ValueError(
                f"its first layer '{layer}' has weights of shape {shape}, not those of a convolution of three channels"
            )


def check_published(backbone: str, resolution: str, size: int) -> None:
    """Raise ValueError if timm has no weights of ``backbone``; as timm does, if they do not fit the strategy or the ``size``.

    Nothing is fetched: the backbone is given weights of the published shapes without numbers.
    """
    if not published(backbone).has_weights:
        raise ValueError(f"weights: timm has none of '{backbone}'; give 'none', or the path of a file")
    usual = meta_backbone(backbone, "downsize", usual_size(backbone)).state_dict()
    try:
        with torch.device("meta"):
            create_published(backbone, resolution, size, state=dict(usual))
    except Exception:  # some of timm's models resize with numbers: what they say without them means nothing
        zeros = {name: torch.zeros((), dtype=tensor.dtype).expand(tensor.shape) for name, tensor in usual.items()}
        with torch.random.fork_rng(devices=[]):
            create_published(backbone, resolution, size, state=zeros)


def load_pretrained(network: nn.Module, config: TrialConfig) -> None:
    """Put the weights that ``config.weights`` names into the backbone of ``network`` (see `models.build`).

    Head, further blocks and input stage stay as they are, and so do torch's random numbers. Raises UserError as
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
    # Not strict: batch counters stay out.
    backbone.load_state_dict(state, strict=False)


def pretrained_state(config: TrialConfig) -> dict[str, Tensor]:
    """Return the weights that ``config.weights`` names, by the names of the backbone's and for three channels.

    A file whose first layer has the network's own channels, as that of a trained network has, is taken as it is. A hub that
    is away is waited for: days into a search, its moment's trouble is no reason to end. Raises UserError as `check_weights`
    does.
    """
    if config.weights == "timm":
        return patiently(
            lambda: _published_state(config), "timm's hub", transient=lambda error: isinstance(error, HubAway), hint=FROM_FILE
        )
    tensors = read_tensors(_path(config.weights))
    return {name: tensors[found] for name, found in _fitting(_shapes(tensors.items()), config).items()}


def check_weights(config: TrialConfig) -> None:
    """Raise UserError, in one message, unless the weights that ``config.weights`` names can be had and fit.

    Of a file only names and shapes are read. What the hub has is fetched, into its cache; where the hub is out of reach, that
    is found out within seconds.
    """
    if config.weights == "timm":
        _published_state(config)
    elif config.weights != "none":
        _fitting(read_shapes(_path(config.weights)), config)


def _wanted(backbone: str, resolution: str, size: int) -> Shapes:
    """Return names and shapes of the backbone's tensors, in order, without batch counters, for three channels."""
    tensors = meta_backbone(backbone, resolution, size).state_dict().items()
    return _shapes((name, tensor) for name, tensor in tensors if not name.endswith(COUNTER))


def _shapes(tensors: Iterable[tuple[str, Tensor]]) -> Shapes:
    return {name: tuple(tensor.shape) for name, tensor in tensors}


def _fitting(found: Shapes, config: TrialConfig) -> dict[str, str]:
    """Return, for every name of the backbone, that of the tensor in the file of ``config.weights``, which holds ``found``."""
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
            f"weights: expected none, timm, or the absolute path of a file, one that every machine of the search can read "
            f"(given: {weights!r})"
        )
    try:
        path.stat()
    except OSError as error:
        if hides_content(error):
            raise refused(error, path, doing="weights: the file cannot be looked at") from None
        there = "; it is a link to nothing" if os.path.islink(path) else ""  # noqa: PTH114  # Path.is_symlink raises what stat did
        raise UserError(f"weights: there is no file {path} on this machine{there}") from None
    if not path.is_file():
        raise UserError(f"weights: {path} is not a file{'; give the file in this folder' if path.is_dir() else ''}")
    return path


def _published_state(config: TrialConfig) -> dict[str, Tensor]:
    """Return the weights that timm's hub has of the backbone, brought to the network's size. Raises HubAway, and UserError."""
    require_reachable(config.backbone)
    try:
        with torch.random.fork_rng(devices=[]):
            made = create_published(config.backbone, config.resolution, config.network_size)
    except Exception as error:  # of the hub, of the file, or of the model
        kind = HubAway if is_away(error) else UserError
        raise kind(f"weights: timm's of '{config.backbone}' cannot be had: {cause(error)}") from None
    return {name: tensor for name, tensor in made.state_dict().items() if not name.endswith(COUNTER)}
