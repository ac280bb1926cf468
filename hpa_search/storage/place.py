"""Places of data and results: a local path, or the URL of an object store."""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from hpa_search.errors import UserError, nearest

SCHEMES = {"s3": "bucket", "gs": "bucket", "gcs": "bucket", "abfs": "container", "abfss": "container"}
"""Object stores that pyarrow has a client for, and each store's word for the part after ``//``."""

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_COLLAPSED = re.compile(rf"({'|'.join(SCHEMES)}|file):/?[^/]")
_SECRETS = {"access_key", "secret_key", "session_token", "password", "account_key", "sas_token"}


@dataclass(frozen=True)
class Place:
    """A folder or a file; make it with `Place.of`.

    ``path`` is the local path as given, or the key in a store's ``bucket``. The key has no '/' at its ends. ``scheme`` is
    empty for a local place. ``query`` holds the client settings of the URL.
    """

    path: str
    scheme: str = ""
    bucket: str = ""
    query: str = ""

    @classmethod
    def of(cls, given: "Place | Path | str") -> "Place":
        """Return the place of a path or URL.

        A ``file://`` URL is a local path. Raises UserError for a malformed URL, an unknown scheme, a missing bucket or a
        password.
        """
        if isinstance(given, Place):
            return given
        text = str(given)
        if not text.strip():
            raise UserError("a path is empty; give a folder, a file or a URL (is a variable of the command not set?)")
        found = _URL.match(text)
        if found is None:
            if _COLLAPSED.match(text):
                raise UserError(f"{text}: a URL has two slashes after its scheme; write {re.sub(':/?', '://', text, count=1)}")
            return cls(text)
        scheme = found[1].lower()
        if scheme == "file":
            return cls(_local_path(text))
        if scheme not in SCHEMES:
            known = ", ".join(f"{name}://" for name in (*SCHEMES, "file"))
            raise UserError(f"{text}: scheme '{scheme}' is not known{nearest(scheme, SCHEMES)}; a folder, or one of {known}")
        return _remote(text, scheme)

    @property
    def is_local(self) -> bool:
        """Whether the place is a path of this machine's file systems."""
        return not self.scheme

    @property
    def local(self) -> Path:
        """The path of a local place. Raises ValueError for a remote place."""
        if not self.is_local:
            raise ValueError(f"{self} is not a local path")
        return Path(self.path)

    @property
    def key(self) -> str:
        """Bucket and path of a remote place, as pyarrow takes them."""
        return f"{self.bucket}/{self.path}".rstrip("/")

    @property
    def name(self) -> str:
        """The last part of the path; empty for a bucket."""
        return self.path.rpartition("/")[2]

    @property
    def parent(self) -> "Place":
        """The folder that the place lies in; a bucket is its own parent."""
        return replace(self, path=str(self.local.parent) if self.is_local else self.path.rpartition("/")[0])

    @property
    def plain(self) -> "Location":
        """The path of a local place, else the place itself."""
        return self.local if self.is_local else self

    def resolve(self) -> "Place":
        """Return the same place, a local one with an absolute path."""
        return replace(self, path=str(self.local.resolve())) if self.is_local else self

    def __truediv__(self, name: str) -> "Place":
        if self.is_local:
            return replace(self, path=str(self.local / name))
        return replace(self, path="/".join(part for part in (self.path, name.strip("/")) if part))

    def __str__(self) -> str:
        if self.is_local:
            return self.path
        return f"{self.scheme}://{self.key}" + (f"?{self.query}" if self.query else "")


Location = Place | Path
"""The type of a folder or file in the arguments of this package's entry points."""


def _local_path(text: str) -> str:
    parts = urlsplit(text)
    if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
        raise UserError(f"{text}: a file URL names an absolute path of this machine; write file:///FOLDER, or the path alone")
    return unquote(parts.path)


def _remote(text: str, scheme: str) -> Place:
    bucket, _, rest = text.partition("://")[2].partition("/")
    if "?" in bucket:
        bucket, rest = bucket.partition("?")[0], "?" + text.partition("?")[2]
    path, _, query = rest.partition("?")
    _refuse_secrets(scheme, bucket, query)
    if not bucket:
        raise UserError(f"{text}: no {SCHEMES[scheme]} in it; write {scheme}://{SCHEMES[scheme].upper()}/FOLDER")
    path = path.strip("/")
    if any(part in ("", ".", "..") for part in path.split("/")) and path:
        raise UserError(f"{text}: an empty part, '.' or '..' in the path; an object store has no such folders")
    return Place(path, scheme, bucket, query)


def _refuse_secrets(scheme: str, bucket: str, query: str) -> None:
    """Refuse a URL with a user name or password.

    URLs are written to files and shown. So the message does not repeat the URL.
    """
    user, at, _ = bucket.rpartition("@")
    if (at and (":" in user or scheme == "s3")) or _SECRETS & parse_qs(query, keep_blank_values=True).keys():
        raise UserError(
            f"{scheme}://...: a URL is written to files, so it may hold no user name and no password; give credentials by the "
            "environment, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, on every machine that takes part"
        )
