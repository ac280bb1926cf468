"""Asking a search on a cluster for its state, or to pause, stop or go on for longer, from where only the dashboard is seen."""

import json
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

from hpa_search.cluster.dashboard import Dashboard
from hpa_search.cluster.jobs import Job, Target, find_target, in_words, our_jobs, wait_for_end
from hpa_search.cluster.package import STOP_SECONDS
from hpa_search.cluster.remote import Answer, RemoteError, ask
from hpa_search.errors import UserError

GRACE_SECONDS = STOP_SECONDS + 30.0
"""How long a job may take to end after it was asked to; a part of it is Ray's own bookkeeping."""

PREPARING = "preparing"

Say = Callable[[str], None]


def read_status(dashboard: Dashboard, target: str) -> tuple[Job | None, dict[str, Any]]:
    """Return the newest job of a search and what `hpa-search status --json` says of it on the cluster.

    A search whose job has not come to begin it is `preparing`, and `reason` says what there is instead of a status.
    Raises UserError if there is neither search nor job.
    """
    found = find_target(dashboard, target)
    if found.job is not None and found.job.state == "PENDING":
        return found.job, _preparing(found.job.message)
    answer = ask(dashboard, ["status", found.out, "--json"])[0]
    try:
        return found.job, json.loads(answer.checked())
    except RemoteError as error:
        if found.job is not None and not found.job.over:
            return found.job, _preparing(str(error))
        raise _with_jobs(dashboard, found, error) from None


def pause(dashboard: Dashboard, target: str, *, wait: bool, say: Say) -> None:
    """Pause a search; ``wait`` for its job's end. Raises UserError if its driver cannot hear of that yet."""
    found = find_target(dashboard, target)
    if found.job is not None and found.job.state == "PENDING":
        raise UserError(
            f"{found.job.name} has not started yet; to take it back: hpa-search stop {_here(dashboard, found.job.name)}"
        )
    state, answer = _ask_to_rest(dashboard, found, "pause")
    if _runs(found) and state not in ("running", "finished"):
        raise UserError(
            f"{found.out}: its driver takes no commands yet, for it checks and packs the images; pause it when its state is "
            f"running, or: hpa-search stop {_here(dashboard, found.out)}"
        )
    say(_output(dashboard, found, answer))
    if wait and found.job is not None and not found.job.over:
        ended = wait_for_end(dashboard, found.job, math.inf, say)
        say(f"{ended.name}: {ended.state}.")


def stop(dashboard: Dashboard, target: str, say: Say) -> None:
    """Stop a search and wait for its job's end, by Ray's signals if it does not hear or does not end in time.

    Raises UserError if it does not end even so.
    """
    found = find_target(dashboard, target)
    if found.job is None or found.job.over:
        say(_output(dashboard, found, _ask_to_rest(dashboard, found, "stop")[1]))
        return
    job, hears = found.job, False
    if job.state == "RUNNING":
        state, answer = _ask_to_rest(dashboard, found, "stop")
        hears = answer.code == 0 and state in ("running", "finished")
        if hears:
            say(_output(dashboard, found, answer))
            job = wait_for_end(dashboard, job, GRACE_SECONDS, say)
    if not job.over:
        job = _end(dashboard, job, say)
    say(f"{job.name}: {job.state}.")


def extend(dashboard: Dashboard, target: str, options: Sequence[str], say: Say) -> None:
    """Add to a search's budget; ``options`` are those of `hpa-search extend`."""
    found = find_target(dashboard, target)
    say(_output(dashboard, found, ask(dashboard, ["extend", found.out, *options])[0]))


def resumable(dashboard: Dashboard, target: str) -> Target:
    """Return the search that is to go on. Raises UserError if no job is known of it, and nothing of it is seen on the cluster."""
    found = find_target(dashboard, target)
    if found.job is None:
        answer = ask(dashboard, ["status", found.out, "--json"])[0]
        try:
            state = json.loads(answer.checked())["state"]
        except RemoteError as error:
            raise _with_jobs(dashboard, found, error) from None
        if state == "running":
            raise UserError(f"{found.out}: a driver is at work on this search, though not as a job that the cluster knows")
    return found


def _ask_to_rest(dashboard: Dashboard, found: Target, wish: str) -> tuple[str | None, Answer]:
    """Return the state that a search was in, None if it had none, and what came of the wish."""
    coming = ["--coming"] if _runs(found) else []
    status, answer = ask(dashboard, ["status", found.out, "--json"], [wish, found.out, *coming])
    return (json.loads(status.out)["state"] if status.code == 0 else None), answer


def _runs(found: Target) -> bool:
    return found.job is not None and found.job.state == "RUNNING"


def _end(dashboard: Dashboard, job: Job, say: Say) -> Job:
    say(f"Ending {job.name} ({job.state}) by Ray's signals; it has {STOP_SECONDS} s to end by itself.")
    dashboard.stop(job.name)
    job = wait_for_end(dashboard, job, GRACE_SECONDS, say)
    if not job.over:
        raise UserError(
            f"{job.name} is {job.state} still ({job.message}); Ray was asked to end it, and does so when it can: "
            f"hpa-search list --address {dashboard.address}"
        )
    return job


def _output(dashboard: Dashboard, found: Target, answer: Answer) -> str:
    """Return what a command wrote, with the commands that it names as they are given from here."""
    try:
        said = answer.checked().strip()
    except RemoteError as error:
        raise _with_jobs(dashboard, found, error) from None
    return re.sub(rf"(hpa-search [a-z]+ {re.escape(found.out)})(?!/)", rf"\1 --address {dashboard.address}", said)


def _with_jobs(dashboard: Dashboard, found: Target, error: RemoteError) -> UserError:
    """Return the refusal; where no job is known of the folder, it may have been mistyped."""
    if found.job is not None:
        return error
    jobs = in_words(our_jobs(dashboard))
    return RemoteError(f"{error} (said by the cluster; {dashboard.address} knows no job of {found.out}; {jobs})", error.exit_code)


def _here(dashboard: Dashboard, target: str) -> str:
    return f"{target} --address {dashboard.address}"


def _preparing(reason: str) -> dict[str, Any]:
    return {"state": PREPARING, "seconds": 0.0, "trials": [], "reason": reason}
