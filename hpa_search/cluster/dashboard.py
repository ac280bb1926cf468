"""A Ray cluster's dashboard, by Ray's own client. Each of its errors becomes one message."""

import logging
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import requests
from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobSubmissionClient
from requests.utils import get_environ_proxies

from hpa_search.cluster.token import NO_TOKEN, auth_headers
from hpa_search.engine.surroundings import spare_loopback
from hpa_search.errors import UserError
from hpa_search.storage.patience import Unreachable

ADDRESS_VARIABLE = "RAY_API_SERVER_ADDRESS"
CONNECT_SECONDS, ANSWER_SECONDS = 10, 60
_TALKATIVE = ("dashboard.modules.dashboard_sdk", "dashboard.modules.job.sdk", "_private.runtime_env.packaging")


class _RefusedError(Exception):
    """The dashboard answered with an HTTP status other than success."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__((text.strip().splitlines() or ["no reason given"])[-1])
        self.status = status


class _Client(JobSubmissionClient):
    """Ray's client with time limits, and with the HTTP status of a refusal."""

    def _do_request(self, method: str, endpoint: str, **options: Any) -> Any:
        return super()._do_request(method, endpoint, **{"timeout": (CONNECT_SECONDS, ANSWER_SECONDS), **options})

    def _raise_error(self, r: Any) -> None:
        raise _RefusedError(r.status_code, r.text)


class Dashboard:
    """The dashboard at ``address``, such as http://HEAD:8265. The constructor contacts it at once.

    Every method raises Unreachable if no dashboard answers, or with an HTTP status of 500 or more. Every other refusal raises
    UserError.
    """

    def __init__(self, address: str) -> None:
        self.address = _whole(address)
        spare_loopback()  # a dashboard on this machine, or behind ssh -L, needs no proxy
        for name in _TALKATIVE:
            logging.getLogger(f"ray.{name}").setLevel(logging.ERROR)
        with self._explained("connect"), _set(ADDRESS_VARIABLE, self.address):
            self._client = _Client(self.address, headers=auth_headers())

    def jobs(self) -> list[JobDetails]:
        """Return every job that the cluster remembers."""
        with self._explained("list its jobs"):
            return self._client.list_jobs()

    def job(self, name: str) -> JobDetails | None:
        """Return the job ``name``, or None."""
        with self._explained(f"show {name}"):
            try:
                return self._client.get_job_info(name)
            except _RefusedError as error:
                if error.status == requests.codes.not_found:
                    return None
                raise

    def log(self, name: str) -> str:
        """Return the log of a job so far."""
        with self._explained(f"show the log of {name}"):
            return self._client.get_job_logs(name)

    async def tail(self, name: str) -> AsyncIterator[str]:
        """Yield the log of a job in pieces, from its beginning, as it is written. The end does not mean that the job ended."""
        with self._explained(f"show the log of {name}"):
            async for piece in self._client.tail_job_logs(name):
                yield piece

    def send(self, name: str, entrypoint: str, runtime_env: Mapping[str, Any], metadata: Mapping[str, str]) -> None:
        """Start the job ``name``, which runs the shell command ``entrypoint``."""
        with self._explained("take the job"):
            self._client.submit_job(
                entrypoint=entrypoint, submission_id=name, runtime_env=dict(runtime_env), metadata=dict(metadata)
            )

    def stop(self, name: str) -> None:
        """Ask Ray to end a job by SIGTERM, and later by SIGKILL."""
        with self._explained(f"stop {name}"):
            self._client.stop_job(name)

    def forget(self, name: str) -> None:
        """Remove an ended job from the cluster's list."""
        with self._explained(f"forget {name}"):
            self._client.delete_job(name)

    @contextmanager
    def _explained(self, deed: str) -> Iterator[None]:
        """Turn each error of Ray's client into Unreachable or UserError, with the ``deed`` that failed."""
        try:
            yield
        except AuthenticationError:
            raise UserError(f"{self.address}: {NO_TOKEN}") from None
        except _RefusedError as error:
            trouble = error.status >= requests.codes.internal_server_error
            kind = Unreachable if trouble else UserError
            raise kind(f"{self.address}: the cluster did not {deed}: {error} (HTTP status {error.status})") from None
        except requests.HTTPError as error:
            trouble = error.response is not None and error.response.status_code >= requests.codes.internal_server_error
            raise (Unreachable if trouble else UserError)(f"{self.address}: {_NO_DASHBOARD} ({error})") from None
        except (ConnectionError, requests.ConnectionError, requests.Timeout, aiohttp.ClientError, TimeoutError):
            raise Unreachable(f"{self.address}: {_NO_DASHBOARD}{_by_proxy(self.address)}") from None
        except (RuntimeError, ValueError, KeyError, requests.RequestException) as error:
            raise UserError(f"{self.address}: the cluster did not {deed}: {error}") from None


_NO_DASHBOARD = (
    "no Ray dashboard answers there; give the address of the dashboard as seen from here, such as http://HEAD:8265, or forward "
    "its port, such as ssh -L 8265:localhost:8265 HEAD"
)


def _by_proxy(address: str) -> str:
    """Return a hint at the proxy for ``address``, or an empty text."""
    proxy = get_environ_proxies(address).get(urlsplit(address).scheme)
    host = urlsplit(address).hostname
    return f". The request went through the proxy {proxy}; add {host} to NO_PROXY if no proxy is needed" if proxy else ""


def _whole(address: str) -> str:
    """Return the address with a scheme and without a trailing slash. Refuse other kinds of addresses."""
    whole = address if "://" in address else f"http://{address}"
    try:
        parts = urlsplit(whole)
        known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        known = False
    if not known:
        raise UserError(f"--address {address}: not the address of a dashboard; give one such as http://HEAD:8265")
    return whole.rstrip("/")


@contextmanager
def _set(name: str, value: str) -> Iterator[None]:
    """Set an environment variable while the block runs. Ray takes this one, or RAY_ADDRESS, over the address it is given."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
