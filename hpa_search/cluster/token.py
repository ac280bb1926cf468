"""The token that a cluster with authentication asks for."""

import os
from pathlib import Path

from hpa_search.errors import UserError

NO_TOKEN = (
    "the cluster asks for a token, and this is not its own, or there is none. Copy the file that `ray get-auth-token` "
    "shows on the cluster's head to ~/.ray/auth_token here, or set RAY_AUTH_TOKEN"
)


def auth_headers() -> dict[str, str]:
    """Return the HTTP header with the token that is at hand, found where Ray looks for it; none if there is no token.

    Ray's own client sends a token only where RAY_AUTH_MODE says so; where that is set, this is left to it.
    Raises UserError if RAY_AUTH_TOKEN_PATH names a file that cannot be read.
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
        raise UserError(f"{path}: the token for the cluster cannot be read ({error}); see RAY_AUTH_TOKEN_PATH") from None
