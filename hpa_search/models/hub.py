"""Find out within seconds whether timm's hub can be reached, and whether a failure may pass.

timm and huggingface_hub would try for about a minute. Their errors do not say what to do.
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
"""The timeout of a request."""

FILES = ("model.safetensors", "pytorch_model.bin")

_CLIENTS = ("httpcore", "httpcore2", "httpx", "httpx2", "requests", "urllib3")
"""The HTTP libraries of past and present huggingface_hub versions: their errors share no class."""


class HubAway(UserError):  # noqa: N818  (named for the hub's state)
    """timm's weights cannot be fetched now, but perhaps later."""


def is_away(error: BaseException | None) -> bool:
    """Return whether ``error`` or one of its causes means that the hub is unreachable, overloaded or failing."""
    while error is not None:
        status = getattr(getattr(error, "response", None), "status_code", None) or getattr(error, "code", None)
        if isinstance(status, int):
            return status == 429 or status >= 500
        away = (urllib.error.URLError, ConnectionError, TimeoutError, huggingface_hub.errors.LocalEntryNotFoundError)
        if isinstance(error, away) or type(error).__module__.partition(".")[0] in _CLIENTS:
            return True
        error = error.__cause__ or error.__context__
    return False


def require_reachable(backbone: str) -> None:
    """Return if timm's weights of ``backbone`` are cached or their server answers. Raises HubAway otherwise."""
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
    # A single attempt; a download would make five.
    with contextlib.suppress(huggingface_hub.errors.HfHubHTTPError):
        huggingface_hub.get_hf_file_metadata(url, timeout=SECONDS)


def _ask(url: str) -> None:
    with contextlib.suppress(urllib.error.HTTPError):
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=SECONDS).close()


def _require_answer(url: str, ask: Callable[[str], None]) -> None:
    """Raise HubAway unless ``url`` answers. A refusal is an answer, which timm explains better."""
    try:
        ask(url)
    except Exception as error:  # of the operating system, TLS, or the hub's client, whose HTTP library changes
        raise HubAway(
            f"weights: timm's hub cannot be reached from here ({cause(error)}); on a machine that can, download {url} and give the "
            f"file's path: weights: /path/to/{Path(url).name}"
        ) from None
