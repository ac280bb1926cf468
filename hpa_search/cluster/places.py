"""Paths and URLs as the cluster's nodes see them."""

import posixpath
from collections.abc import Mapping
from urllib.parse import parse_qs, urlsplit

from hpa_search.cluster.jobs import is_url
from hpa_search.errors import UserError

_SECRET = ("key", "secret", "token", "password", "signature", "credential")


def check_place(option: str, place: str) -> str:
    """Return ``place``, the value of ``option``. Raises UserError for a path that is not whole, and for a secret in a URL."""
    if is_url(place):
        _check_no_secret(option, place)
    elif not posixpath.isabs(place):
        raise UserError(f"{option} {place}: give a whole path or a URL; the job runs in a folder of its own, which Ray deletes")
    return place


def place_options(places: Mapping[str, str | None]) -> list[str]:
    """Return options and their values as a command has them, those without a value left out; each place is checked."""
    return [word for option, place in places.items() if place is not None for word in (option, check_place(option, place))]


def _check_no_secret(option: str, url: str) -> None:
    """What a job is sent with can be read by everyone who sees the dashboard."""
    try:
        parts = urlsplit(url)
        secrets = [name for name in parse_qs(parts.query, keep_blank_values=True) if any(w in name.lower() for w in _SECRET)]
        inside = parts.password is not None or parts.username is not None
    except ValueError as error:
        raise UserError(f"{option}: this is no URL ({error})") from None
    if inside or secrets:
        shown = f"{parts.scheme}://{parts.hostname or ''}{parts.path}"
        raise UserError(
            f"{option} {shown}: leave user, password and keys out of the URL, which everyone can read on the dashboard; set them "
            "in the environment that Ray was started in on the nodes, such as AWS_ACCESS_KEY_ID"
        )
