"""Whether the place where timm's weights are can be reached, found out within seconds.

timm and huggingface_hub would try for about a minute, and then not say what to do.
"""

import contextlib
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import torch

from hpa_search.errors import UserError
from hpa_search.models.create import cause, published

SECONDS = 5
"""How long an answer may take."""

FILES = ("model.safetensors", "pytorch_model.bin")


def require_reachable(backbone: str) -> None:
    """Raise UserError, saying what to do, unless timm's weights of ``backbone`` are in the cache or their place answers."""
    entry = published(backbone)
    name, _, revision = (entry.hf_hub_id or "").partition("@")
    files = (entry.hf_hub_filename, *FILES) if entry.hf_hub_filename else FILES
    if name:
        if not any(
            isinstance(huggingface_hub.try_to_load_from_cache(name, file, revision=revision or None), str) for file in files
        ):
            _require_answer(huggingface_hub.hf_hub_url(name, files[0], revision=revision or None), _ask_hub)
    elif entry.url and not (Path(torch.hub.get_dir()) / "checkpoints" / Path(entry.url).name).exists():
        _require_answer(entry.url, _ask)


def _ask_hub(url: str) -> None:
    # Once and not five times, as a download does.
    with contextlib.suppress(huggingface_hub.errors.HfHubHTTPError):
        huggingface_hub.get_hf_file_metadata(url, timeout=SECONDS)


def _ask(url: str) -> None:
    with contextlib.suppress(urllib.error.HTTPError):
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=SECONDS).close()


def _require_answer(url: str, ask: Callable[[str], None]) -> None:
    """Raise UserError unless ``url`` answers, whatever it is: if that is a refusal, timm knows better what to do."""
    try:
        ask(url)
    except Exception as error:  # of the operating system, of TLS, of the hub's client, which has changed its library before
        raise UserError(
            f"weights: timm's hub cannot be reached from here ({cause(error)}); on a machine that can, download {url} and give the "
            f"file's path: weights: /path/to/{Path(url).name}"
        ) from None
