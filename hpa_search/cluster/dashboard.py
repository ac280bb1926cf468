"""The dashboard of a Ray cluster: Ray's own client, whose every fault becomes one message."""

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
    """The dashboard answered with a status that is no success."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__((text.strip().splitlines() or ["no reason given"])[-1])
        self.status = status


class _Client(JobSubmissionClient):
    """Ray's client; it gives up on a dashboard that is silent, and keeps the status of a refusal."""

    def _do_request(self, method: str, endpoint: str, **options: Any) -> Any:
        return super()._do_request(method, endpoint, **{"timeout": (CONNECT_SECONDS, ANSWER_SECONDS), **options})

    def _raise_error(self, r: Any) -> None:
        raise _RefusedError(r.status_code, r.text)


class Dashboard:
    """The dashboard at ``address``, such as http://HEAD:8265, which is asked at once whether it is there.

    Every method raises Unreachable if it does not answer or is in trouble itself, and UserError if it refuses.
    """

    def __init__(self, address: str) -> None:
        self.address = _whole(address)
        spare_loopback()
        for name in _TALKATIVE:
            logging.getLogger(f"ray.{name}").setLevel(logging.ERROR)
        with self._told("connect"), _alone(ADDRESS_VARIABLE, self.address):
            self._client = _Client(self.address, headers=auth_headers())

    def jobs(self) -> list[JobDetails]:
        """Return all jobs that this cluster remembers."""
        with self._told("list its jobs"):
            return self._client.list_jobs()

    def job(self, name: str) -> JobDetails | None:
        """Return the job called ``name``; None if there is none."""
        with self._told(f"show {name}"):
            try:
                return self._client.get_job_info(name)
            except _RefusedError as error:
                if error.status == requests.codes.not_found:
                    return None
                raise

    def log(self, name: str) -> str:
        """Return all that a job has written so far."""
        with self._told(f"show the log of {name}"):
            return self._client.get_job_logs(name)

    async def tail(self, name: str) -> AsyncIterator[str]:
        """Yield a job's log from its beginning, in pieces, as it is written; the end of this says nothing of the job's."""
        with self._told(f"show the log of {name}"):
            async for piece in self._client.tail_job_logs(name):
                yield piece

    def send(self, name: str, entrypoint: str, runtime_env: Mapping[str, Any], metadata: Mapping[str, str]) -> None:
        """Start a job."""
        with self._told("take the job"):
            self._client.submit_job(
                entrypoint=entrypoint, submission_id=name, runtime_env=dict(runtime_env), metadata=dict(metadata)
            )

    def stop(self, name: str) -> None:
        """Ask Ray to end a job: SIGTERM, and SIGKILL when its time for that is over."""
        with self._told(f"stop {name}"):
            self._client.stop_job(name)

    def forget(self, name: str) -> None:
        """Strike a job that has ended off the cluster's list."""
        with self._told(f"forget {name}"):
            self._client.delete_job(name)

    @contextmanager
    def _told(self, deed: str) -> Iterator[None]:
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
    "no Ray dashboard answers there; give the address that the cluster's dashboard has from here, such as http://HEAD:8265, "
    "or open a way to it, such as ssh -L 8265:localhost:8265 HEAD"
)


def _by_proxy(address: str) -> str:
    """Return what is to be said of the proxy through which ``address`` was asked; an empty text where there is none."""
    proxy = get_environ_proxies(address).get(urlsplit(address).scheme)
    host = urlsplit(address).hostname
    return f". It was asked through the proxy {proxy}; add {host} to NO_PROXY if it can be reached directly" if proxy else ""


def _whole(address: str) -> str:
    """Return an address with its scheme and without a slash at its end."""
    whole = address if "://" in address else f"http://{address}"
    try:
        parts = urlsplit(whole)
        known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        known = False
    if not known:
        raise UserError(f"--address {address}: is no dashboard's address, such as http://HEAD:8265")
    return whole.rstrip("/")


@contextmanager
def _alone(name: str, value: str) -> Iterator[None]:
    """Set an environment variable for a moment; Ray lets this one, and else RAY_ADDRESS, overrule the address it is given."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
