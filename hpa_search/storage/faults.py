"""Sort the faults of pyarrow's file systems: waiting may mend some; the user must mend the others."""

import re

import pyarrow as pa

from hpa_search.errors import UserError
from hpa_search.storage.place import SCHEMES, Place

_TRANSIENT = re.compile(
    r"NETWORK_CONNECTION|SLOW_DOWN|THROTTLING|INTERNAL_FAILURE|SERVICE_UNAVAILABLE|REQUEST_TIMEOUT|RequestTimeout"
    r"|HTTP status (5\d\d|429|408)|curlCode"
    r"|UNAVAILABLE|DEADLINE_EXCEEDED|RESOURCE_EXHAUSTED|Status\(INTERNAL"
    r"|\b(500|502|503|504) |ServerBusy|get a new connection"
    r"|could ?n.t (connect|resolve)|connection (refused|reset|closed)|timed? ?out|incomplete (up|down)load",
    re.IGNORECASE,
)
_CERTIFICATE = re.compile(r"curlCode: (60|77)\b|certificate", re.IGNORECASE)
_REFUSED = re.compile(
    r"ACCESS_DENIED|INVALID_ACCESS_KEY_ID|SIGNATURE_DOES_NOT_MATCH|INVALID_SIGNATURE|MISSING_AUTHENTICATION|UNRECOGNIZED_CLIENT"
    r"|HTTP status (401|403)|ExpiredToken|InvalidToken|TokenRefreshRequired|INVALID_CLIENT_TOKEN|PERMISSION_DENIED|UNAUTHENTICATED"
    r"|Permission ?Denied|AuthenticationFailed|AuthorizationFailure|credential",
    re.IGNORECASE,
)
_NO_BUCKET = re.compile(
    r"NO_SUCH_BUCKET|NoSuchBucket|ContainerNotFound|bucket does not exist|Bucket '.*' not found", re.IGNORECASE
)
_REDIRECTED = re.compile(
    r"HTTP status (301|307|400).*(Redirect|region)|PermanentRedirect|AuthorizationHeaderMalformed", re.IGNORECASE
)

_CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN with a temporary key), or AWS_PROFILE",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, the path of a service account's key",
    "gcs": "GOOGLE_APPLICATION_CREDENTIALS, the path of a service account's key",
    "abfs": "AZURE_CLIENT_ID, AZURE_TENANT_ID and AZURE_CLIENT_SECRET",
    "abfss": "AZURE_CLIENT_ID, AZURE_TENANT_ID and AZURE_CLIENT_SECRET",
}


class Missing(UserError):  # noqa: N818  (named for the object's state)
    """The object does not exist."""


def is_remote(error: Exception) -> bool:
    """Return whether ``error`` is a store's answer or silence.

    A local disk's error has an errno, a store's has none.
    """
    return isinstance(error, FileNotFoundError | pa.ArrowException) or (isinstance(error, OSError) and error.errno is None)


def is_transient(error: Exception) -> bool:
    """Return whether waiting may mend ``error``.

    It may mend a lost connection, and a server that hangs, is overloaded or has an internal error.
    """
    if isinstance(error, FileNotFoundError) or not is_remote(error):
        return False
    text = str(error)
    return bool(_TRANSIENT.search(text)) and not _CERTIFICATE.search(text)


def explained(error: Exception, place: Place, endpoint: str) -> UserError:
    """Return the message for a fault that waiting cannot mend.

    ``endpoint`` names the server.
    """
    text = " ".join(str(error).split())
    where, bucket = f"{place} ({endpoint})", f"{SCHEMES[place.scheme]} '{place.bucket}'"
    if isinstance(error, FileNotFoundError):
        return Missing(f"{place}: not there")
    if _NO_BUCKET.search(text):
        return UserError(f"{where}: there is no {bucket}; make it first, or correct the URL or the endpoint")
    if _REDIRECTED.search(text):
        return UserError(f"{where}: {bucket} is in another region; set AWS_REGION to it, or add ?region=REGION to the URL")
    if _CERTIFICATE.search(text):
        return UserError(f"{where}: its certificate is not trusted; set AWS_CA_BUNDLE to its authority's file ({text})")
    if _REFUSED.search(text):
        return UserError(
            f"{where}: access is refused; set {_CREDENTIALS[place.scheme]}, on every machine that takes part, to credentials that "
            f"may list, read, write and delete there ({text})"
        )
    return UserError(f"{where}: {text}")
