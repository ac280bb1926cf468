"""The token for a cluster with authentication."""

import os
from pathlib import Path

from hpa_search.errors import UserError

NO_TOKEN = (
    "the cluster asks for a token, and the token here is missing or wrong. Copy the token that `ray get-auth-token` "
    "prints on the cluster's head into ~/.ray/auth_token here, or set RAY_AUTH_TOKEN"
)


def auth_headers() -> dict[str, str]:
    """Return the HTTP header with the token, or no header without a token.

    The places are Ray's: RAY_AUTH_TOKEN, the file RAY_AUTH_TOKEN_PATH, ~/.ray/auth_token. With RAY_AUTH_MODE set, Ray's own
    client sends the token, and no header is returned. Raises UserError if RAY_AUTH_TOKEN_PATH names an unreadable file.
    """
    if os.environ.get("RAY_AUTH_MODE"):
        return {}
    token = os.environ.get("RAY_AUTH_TOKEN", "").strip() or _from_file()
    return {"Authorization": f"Bearer {token}"} if token else {}


def _from_file() -> str:
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    path = Path(named).expanduser() if named else Path.home() / ".ray" / "auth_token"
    if not named and not path.is_file():
        return ""
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path}: the token for the cluster cannot be read ({error}); correct RAY_AUTH_TOKEN_PATH or the file"
        ) from None
