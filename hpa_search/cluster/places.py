"""Paths and URLs as the cluster's nodes see them."""

import posixpath
from collections.abc import Mapping
from urllib.parse import parse_qs, urlsplit

from hpa_search.cluster.jobs import is_url
from hpa_search.errors import UserError

_SECRET = ("key", "secret", "token", "password", "signature", "credential")


def check_place(option: str, place: str) -> str:
    """Return ``place``, the value of ``option``. Raises UserError for a relative path, and for a secret in a URL."""
    if is_url(place):
        _check_no_secret(option, place)
    elif not posixpath.isabs(place):
        raise UserError(f"{option} {place}: give an absolute path or a URL; the job runs in its own folder, which Ray deletes")
    return place


def place_options(places: Mapping[str, str | None]) -> list[str]:
    """Check each place; return the options with a value as words of a command."""
    return [word for option, place in places.items() if place is not None for word in (option, check_place(option, place))]


def _check_no_secret(option: str, url: str) -> None:
    """Refuse a secret in a URL: the dashboard shows a job's command to everyone."""
    try:
        parts = urlsplit(url)
        secrets = [name for name in parse_qs(parts.query, keep_blank_values=True) if any(w in name.lower() for w in _SECRET)]
        inside = parts.password is not None or parts.username is not None
    except ValueError as error:
        raise UserError(f"{option}: not a valid URL ({error})") from None
    if inside or secrets:
        shown = f"{parts.scheme}://{parts.hostname or ''}{parts.path}"
        raise UserError(
            f"{option} {shown}: leave user, password and keys out of the URL, which everyone can read on the dashboard; set them "
            "in the environment of Ray on the nodes, such as AWS_ACCESS_KEY_ID"
        )
