"""A handle on a search on a Ray cluster, of which only the dashboard is visible here."""

import json
import math
import re
from collections.abc import Callable
from functools import cached_property
from types import TracebackType
from typing import Any, Self

from hpa_search.cluster.dashboard import Dashboard
from hpa_search.cluster.jobs import Job, Target, find_target, in_words, is_away, our_jobs, wait_for_end
from hpa_search.cluster.package import STOP_SECONDS
from hpa_search.cluster.places import place_options
from hpa_search.cluster.remote import Answer, RemoteError, ask
from hpa_search.cluster.sending import RAY, check_idle, send
from hpa_search.errors import UserError
from hpa_search.handle import PREPARING, Snapshot
from hpa_search.storage.patience import patiently

GRACE_SECONDS = STOP_SECONDS + 30.0
"""How long a job may take to end after it was asked to. Ray's own bookkeeping takes a part of it."""

Say = Callable[[str], None]


class ClusterHandle:
    """A `SearchHandle` on the search ``target``: a job's name, or an OUT as the cluster's nodes see it.

    Each call runs our own commands on the cluster's head, where OUT is visible. ``address`` is the dashboard, such as
    http://HEAD:8265; the first call contacts it. ``say`` gets the lines for the user. ``warn`` hears when `status` waits for
    the dashboard. Every method raises UserError where there is neither search nor job.
    """

    poll_seconds = 5.0

    def __init__(self, target: str, address: str, *, say: Say, warn: Say) -> None:
        self._target, self._address, self._say, self._warn = target, address, say, warn

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Do nothing: a dashboard keeps no connection open."""

    def status(self) -> Snapshot:
        """Return the state of the search on the cluster, and a line on its newest job.

        The state is `preparing` until the job opens the ledger. Waits while the dashboard does not answer.
        """
        dashboard = self._dashboard
        job, facts = patiently(self._read, dashboard.address, transient=is_away, tell=self._warn)
        return Snapshot(facts, job=f"{job.name}: {job.state}" if job else f"no job of {self._target} is known")

    def pause(self, *, wait: bool = False) -> None:
        """End the driver after the running epochs. Raises UserError while the driver reads no commands yet."""
        found = self._find()
        if found.job is not None and found.job.state == "PENDING":
            raise UserError(f"{found.job.name} has not started yet; to cancel it: hpa-search stop {self._here(found.job.name)}")
        state, answer = self._ask_to_rest(found, "pause")
        if _runs(found) and state not in ("running", "finished"):
            raise UserError(
                f"{found.out}: the driver reads no commands yet, because it checks and packs the images; pause it when its "
                f"state is running, or: hpa-search stop {self._here(found.out)}"
            )
        self._say(self._output(found, answer))
        # The driver ends before its job does, and only an ended job has freed the cluster.
        if wait and found.job is not None and not found.job.over:
            ended = wait_for_end(self._dashboard, found.job, math.inf, self._say)
            self._say(f"{ended.name}: {ended.state}.")

    def stop(self, *, wait: bool = False) -> None:
        """End the driver now, and always wait for its job's end.

        Ray's signals end a job whose driver reads no commands, or takes longer than `GRACE_SECONDS`. Raises UserError if the
        job runs even then.
        """
        found = self._find()
        if found.job is None or found.job.over:
            # No driver: the command on the cluster notes the search as stopped.
            self._say(self._output(found, self._ask_to_rest(found, "stop")[1]))
            return
        job = found.job
        # A pending job has no driver, and a driver that still packs images reads no commands: only signals end these.
        if job.state == "RUNNING":
            state, answer = self._ask_to_rest(found, "stop")
            if answer.code == 0 and state in ("running", "finished"):
                self._say(self._output(found, answer))
                job = wait_for_end(self._dashboard, job, GRACE_SECONDS, self._say)
        if not job.over:
            job = self._end_by_signals(job)
        self._say(f"{job.name}: {job.state}.")

    def extend(self, *, trials: int | None = None, hours: float | None = None, epochs: int | None = None) -> None:
        """Add to the budget: at once in a running search, else from the next resume on."""
        given = {"--trials": trials, "--hours": hours, "--epochs": epochs}
        options = [word for option, value in given.items() if value is not None for word in (option, str(value))]
        found = self._find()
        self._say(self._output(found, ask(self._dashboard, ["extend", found.out, *options])[0]))

    def resume(
        self, *, data: str | None = None, external: str | None = None, cache: str | None = None, ray: str | None = None
    ) -> str:
        """Send a job that resumes the search; return `submitted`.

        ``data``, ``external`` and ``cache`` are places as the cluster's nodes see them. The default ``cache`` is that of the
        job before. Raises UserError for a ``ray``, and while a job or another driver runs the search.
        """
        if ray is not None:
            raise UserError("resume: --ray joins a Ray from here, --address sends a job to a cluster; give only one of them")
        found = self._find()
        self._check_resumable(found)
        check_idle(self._dashboard, found.out)
        before = found.job
        cache = cache or (before.cache if before else None)
        given = place_options({"--data": data, "--external": external, "--cache": cache})
        name = before.search if before else found.out.rsplit("/", 1)[-1]
        for line in send(self._dashboard, ["resume", found.out, *given, *RAY], search=name, out=found.out, cache=cache):
            self._say(line)
        return "submitted"

    @cached_property
    def _dashboard(self) -> Dashboard:
        return Dashboard(self._address)

    def _find(self) -> Target:
        return find_target(self._dashboard, self._target)

    def _read(self) -> tuple[Job | None, dict[str, Any]]:
        """Return the newest job of the search, and the output of `status --json` on the cluster."""
        found = self._find()
        if found.job is not None and found.job.state == "PENDING":
            return found.job, _preparing(found.job.message)
        answer = ask(self._dashboard, _status_of(found))[0]
        try:
            return found.job, json.loads(answer.checked())
        except RemoteError as error:
            if found.job is not None and not found.job.over:
                return found.job, _preparing(str(error))
            raise self._with_jobs(found, error) from None

    def _check_resumable(self, found: Target) -> None:
        """Refuse an OUT without a search, and a driver that runs outside of any job."""
        if found.job is not None:
            return
        answer = ask(self._dashboard, _status_of(found))[0]
        try:
            state = json.loads(answer.checked())["state"]
        except RemoteError as error:
            raise self._with_jobs(found, error) from None
        if state == "running":
            raise UserError(f"{found.out}: a driver is at work on this search, though not as a job that the cluster knows")

    def _ask_to_rest(self, found: Target, wish: str) -> tuple[str | None, Answer]:
        """Return the state before the ``wish``, None without a ledger; and the answer to the wish."""
        # A helper takes seconds to start, so both commands go in one.
        starting = ["--coming"] if _runs(found) else []
        status, answer = ask(self._dashboard, _status_of(found), [wish, found.out, *starting])
        return (json.loads(status.out)["state"] if status.code == 0 else None), answer

    def _end_by_signals(self, job: Job) -> Job:
        self._say(f"Ending {job.name} ({job.state}) by Ray's signals; it has {STOP_SECONDS} s to end by itself.")
        self._dashboard.stop(job.name)
        job = wait_for_end(self._dashboard, job, GRACE_SECONDS, self._say)
        if not job.over:
            raise UserError(
                f"{job.name} is still {job.state} ({job.message}). Ray ends it as soon as it can; see: "
                f"hpa-search list --address {self._dashboard.address}"
            )
        return job

    def _output(self, found: Target, answer: Answer) -> str:
        """Return what a command printed, with --address added to the commands that it names."""
        try:
            printed = answer.checked().strip()
        except RemoteError as error:
            raise self._with_jobs(found, error) from None
        return re.sub(rf"(hpa-search [a-z]+ {re.escape(found.out)})(?!/)", rf"\1 --address {self._dashboard.address}", printed)

    def _with_jobs(self, found: Target, error: RemoteError) -> UserError:
        """Return the refusal. Add the known jobs where the OUT has none: it may be mistyped."""
        if found.job is not None:
            return error
        address, jobs = self._dashboard.address, in_words(our_jobs(self._dashboard))
        return RemoteError(f"{error} (said by the cluster; {address} knows no job of {found.out}; {jobs})", error.exit_code)

    def _here(self, target: str) -> str:
        return f"{target} --address {self._dashboard.address}"


def _runs(found: Target) -> bool:
    return found.job is not None and found.job.state == "RUNNING"


def _status_of(found: Target) -> list[str]:
    return ["status", found.out, "--json"]


def _preparing(reason: str) -> dict[str, Any]:
    return {"state": PREPARING, "seconds": 0.0, "trials": [], "reason": reason}
