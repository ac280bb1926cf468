"""The pyarrow file system of a place, from the URL and the AWS tools' environment.

pyarrow 26 reads the credentials itself: AWS_ACCESS_KEY_ID ..., AWS_PROFILE, ~/.aws, roles of a cloud's machines. But a URL
can set neither attempts nor timeouts. Without a URL, pyarrow ignores AWS_ENDPOINT_URL. So this module builds S3's file
system.
"""

import os
from urllib.parse import parse_qs, quote, urlsplit

import pyarrow as pa
from pyarrow import fs

from hpa_search.errors import UserError, nearest
from hpa_search.storage.place import Place

CONNECT_SECONDS, SILENT_SECONDS = 5.0, 20.0
"""Seconds without a connection, or without a byte, after which an attempt fails."""
ATTEMPTS = 2
"""Attempts within pyarrow. `patience` retries on top of them, so the two multiply."""
DEFAULT_REGION = "us-east-1"
"""The region that servers other than Amazon's expect by default."""
_S3_QUERY = ("endpoint_override", "force_virtual_addressing", "region", "scheme", "tls_ca_file_path")


def file_system(place: Place) -> fs.FileSystem:
    """Return the file system that the remote ``place`` lies in.

    Raises UserError for a query that its client does not know. Raises OSError if the store must be asked for its region and
    does not answer.
    """
    return _s3(place) if place.scheme == "s3" else _by_url(place)


def endpoint(place: Place) -> str:
    """Return the name of the server that holds a place's objects."""
    found = _endpoint(_query(place)) if place.scheme == "s3" else None
    usual = {"s3": "Amazon S3", "gs": "Google Cloud Storage", "gcs": "Google Cloud Storage"}
    return f"endpoint {'://'.join(found)}" if found else usual.get(place.scheme, "Azure")


def _s3(place: Place) -> fs.FileSystem:
    query = _query(place)
    if unknown := sorted(query.keys() - set(_S3_QUERY)):
        raise UserError(
            f"{place}: '{unknown[0]}' is not a setting of S3{nearest(unknown[0], _S3_QUERY)}; known: {', '.join(_S3_QUERY)}"
        )
    found, region = _endpoint(query), query.get("region")
    if found is not None:
        # Off Amazon's machines, asking for a role only takes time.
        os.environ.setdefault("AWS_EC2_METADATA_DISABLED", "true")
        region = region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or DEFAULT_REGION
    scheme, host = found or (None, None)
    return fs.S3FileSystem(
        region=region or fs.resolve_s3_region(place.bucket),
        scheme=scheme,
        endpoint_override=host,
        force_virtual_addressing=query.get("force_virtual_addressing", "").lower() in ("1", "true"),
        tls_ca_file_path=query.get("tls_ca_file_path") or os.environ.get("AWS_CA_BUNDLE") or None,
        connect_timeout=CONNECT_SECONDS,
        request_timeout=SILENT_SECONDS,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
        allow_delayed_open=True,  # a small object is then one request, not three
    )


def _endpoint(query: dict[str, str]) -> tuple[str, str] | None:
    """Return scheme and host of the configured server; None for Amazon's."""
    given = query.get("endpoint_override") or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if not given:
        return None
    parts = urlsplit(given if "://" in given else f"//{given}")
    host = parts.netloc + parts.path.rstrip("/")
    if not host or "@" in host or parts.scheme not in ("", "http", "https"):
        raise UserError(
            "AWS_ENDPOINT_URL (or endpoint_override): give the server as http://HOST:PORT or https://HOST, without a user"
        )
    return query.get("scheme") or parts.scheme or "https", host


def _query(place: Place) -> dict[str, str]:
    return {name: values[-1] for name, values in parse_qs(place.query, keep_blank_values=True).items()}


def _by_url(place: Place) -> fs.FileSystem:
    # By itself, Google's client retries for a quarter of an hour.
    extra = "" if "retry_limit_seconds" in place.query or place.scheme not in ("gs", "gcs") else "retry_limit_seconds=10"
    query = "&".join(part for part in (place.query, extra) if part)
    try:
        found, _ = fs.FileSystem.from_uri(f"{place.scheme}://{quote(place.key, safe='/@')}" + (f"?{query}" if query else ""))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise UserError(f"{place}: {error}") from None
    return found
