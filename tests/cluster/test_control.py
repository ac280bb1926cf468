"""A handle on a search on a cluster: the commands it sends there, and its use of their answers."""

import json
import shlex

import pytest

from hpa_search.cluster import control as module
from hpa_search.cluster.answer import MARK
from hpa_search.cluster.control import ClusterHandle
from hpa_search.cluster.remote import HELPER
from hpa_search.errors import UserError

OURS = {"hpa_search": "toy", "out": "/shared/toy"}
NO_SEARCH = {"code": 2, "out": "", "err": "Error: /shared/toy: no search here\n"}


def state(word):
    return {"code": 0, "out": json.dumps({"state": word, "seconds": 1.0, "trials": []}), "err": ""}


def said(words):
    return {"code": 0, "out": f"{words}\n", "err": ""}


@pytest.fixture
def handle(dashboard):
    return lambda target="toy-1": ClusterHandle(target, dashboard.address, say=print, warn=print)


@pytest.fixture
def cluster(stand_in):
    """Set the state of the search's job, the answers of the next helpers, and the state after a helper has run."""

    def set_up(job_state, answers=(), then=None):
        stand_in.add("toy-1", job_state, OURS, message="It waits.")
        stand_in.commands = []

        def on_send(server, request):
            if HELPER not in request["metadata"]:
                return
            server.log = f"{MARK}{json.dumps(list(answers))}\n"
            server.jobs[request["submission_id"]]["status"] = "SUCCEEDED"
            server.commands.append(request["metadata"][HELPER])
            if then:
                server.jobs["toy-1"]["status"] = then

        stand_in.on_send = on_send
        return stand_in

    return set_up


def stops(server):
    return [asked for asked in server.asked if asked.endswith("/toy-1/stop")]


def test_the_status_is_the_clusters(cluster, handle):
    cluster("RUNNING", [state("running")])
    found = handle().status()
    assert (found.job, found.state, found.is_active) == ("toy-1: RUNNING", "running", True)


def test_nothing_is_contacted_before_the_first_call():
    with ClusterHandle("toy-1", "ray://x:10001", say=print, warn=print) as handle, pytest.raises(UserError, match="--address"):
        handle.status()


def test_a_search_that_has_not_begun_is_being_prepared(cluster, handle):
    server = cluster("PENDING")
    assert handle().status().facts == {"state": "preparing", "seconds": 0.0, "trials": [], "reason": "It waits."}
    assert server.commands == []
    cluster("RUNNING", [NO_SEARCH])
    assert handle().status().facts["reason"] == "/shared/toy: no search here"


def test_a_search_that_never_began_is_none(cluster, handle):
    cluster("FAILED", [NO_SEARCH])
    with pytest.raises(UserError, match="^/shared/toy: no search here$"):
        handle().status()


def test_a_folder_that_no_job_is_known_of_comes_with_those_that_are(cluster, handle):
    cluster("RUNNING", [NO_SEARCH])
    typo = handle("/shared/typo")
    for refused in (typo.status, typo.resume):
        with pytest.raises(UserError, match=r"no search here .*no job of /shared/typo; it knows toy-1 \(/shared/toy, RUNNING\)"):
            refused()


def test_a_pause_names_the_next_command_as_it_is_given_from_here(cluster, dashboard, handle, capsys):
    cluster("RUNNING", [state("running"), said("Ends soon. To resume: hpa-search resume /shared/toy")])
    handle().pause(wait=False)
    assert capsys.readouterr().out == f"Ends soon. To resume: hpa-search resume /shared/toy --address {dashboard.address}\n"


def test_a_pause_waits_for_the_jobs_end(cluster, handle, capsys):
    cluster("RUNNING", [state("running"), said("Ends soon.")], then="SUCCEEDED")
    handle("/shared/toy").pause(wait=True)
    assert capsys.readouterr().out.splitlines()[-1] == "toy-1: SUCCEEDED."


@pytest.mark.parametrize(("job", "status"), [("PENDING", None), ("RUNNING", NO_SEARCH), ("RUNNING", state("interrupted"))])
def test_a_pause_that_nobody_would_hear_is_refused(cluster, handle, job, status):
    cluster(job, [status, said("No driver is at work.")])
    with pytest.raises(UserError, match="hpa-search stop .* --address http"):
        handle().pause(wait=True)


def test_a_driver_that_hears_is_not_signalled(cluster, handle, capsys):
    server = cluster("RUNNING", [state("running"), said("The driver ends now.")], then="SUCCEEDED")
    handle().stop()
    assert (server.commands, stops(server)) == (["stop"], [])
    assert capsys.readouterr().out.splitlines() == ["The driver ends now.", "toy-1: SUCCEEDED."]


def test_a_driver_that_hears_and_does_not_end_is_signalled(cluster, handle, capsys, monkeypatch):
    monkeypatch.setattr(module, "GRACE_SECONDS", 0.1)
    server = cluster("RUNNING", [state("running"), said("The driver ends now.")])
    handle().stop()
    assert len(stops(server)) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "toy-1: STOPPED."


@pytest.mark.parametrize("status", [NO_SEARCH, state("interrupted")])
def test_a_driver_that_cannot_hear_is_signalled_at_once(cluster, handle, status):
    server = cluster("RUNNING", [status, said("No driver is at work.")])
    handle().stop()
    assert len(stops(server)) == 1


def test_a_job_that_has_not_started_is_taken_back(cluster, handle):
    server = cluster("PENDING")
    handle().stop()
    assert (len(stops(server)), server.commands) == (1, [])


def test_a_job_that_does_not_end_even_so(cluster, dashboard, handle, stand_in, monkeypatch):
    monkeypatch.setattr(module, "GRACE_SECONDS", 0.1)
    monkeypatch.setattr(type(dashboard), "stop", lambda self, name: None)
    cluster("PENDING")
    with pytest.raises(UserError, match="toy-1 is still PENDING .It waits"):
        handle().stop()


def test_a_job_that_is_over_has_its_search_noted(cluster, handle, capsys):
    server = cluster("FAILED", [state("interrupted"), said("No driver is at work on /shared/toy: stopped.")])
    handle().stop()
    assert (server.commands, stops(server)) == (["stop"], [])
    assert "No driver is at work" in capsys.readouterr().out


def test_extensions_are_passed_on(cluster, handle, capsys):
    server = cluster("SUCCEEDED", [said("Extended by 3 trials.")])
    asked, answer = [], server.on_send
    server.on_send = lambda server, request: (asked.append(shlex.split(request["entrypoint"])[-1]), answer(server, request))
    handle().extend(trials=3, hours=0.5)
    assert json.loads(asked[0]) == [["extend", "/shared/toy", "--trials", "3", "--hours", "0.5"]]
    assert server.commands == ["extend"] and capsys.readouterr().out == "Extended by 3 trials.\n"


def test_a_search_that_somebody_runs_without_a_job_is_not_resumed(cluster, handle):
    cluster("RUNNING", [state("running")])
    with pytest.raises(UserError, match="/elsewhere: a driver is at work"):
        handle("/elsewhere").resume()


def test_a_search_whose_job_runs_is_not_resumed(cluster, handle):
    cluster("RUNNING")
    with pytest.raises(UserError, match="toy-1 is RUNNING on /shared/toy already"):
        handle().resume()


def test_a_ray_to_join_is_refused_before_the_cluster_is_asked(stand_in, handle):
    asked = len(stand_in.asked)
    with pytest.raises(UserError, match="--ray joins a Ray from here.*give only one of them"):
        handle().resume(ray="auto")
    assert len(stand_in.asked) == asked


def test_resume_sends_what_the_job_before_had(stand_in, handle, capsys):
    stand_in.add("toy-1", "SUCCEEDED", {**OURS, "cache": "/local"})
    assert handle().resume(data="/moved") == "submitted"
    _, job = stand_in.jobs.values()
    assert job["metadata"] == {**OURS, "cache": "/local"}
    assert shlex.split(job["entrypoint"])[3:] == [
        "resume", "/shared/toy", "--data", "/moved", "--cache", "/local", "--ray", "auto",
    ]  # fmt: skip
    assert "working_dir" not in job["runtime_env"]
    assert capsys.readouterr().out.startswith(f"Submitted as {job['submission_id']}.\n")


def test_a_search_that_no_job_is_known_of_is_called_after_its_folder(cluster, stand_in, handle):
    cluster("RUNNING", [state("stopped")])
    handle("/shared/my search").resume()
    job = stand_in.jobs[next(name for name in stand_in.jobs if name.startswith("my-search-"))]
    assert job["metadata"] == {"hpa_search": "my search", "out": "/shared/my search"}
    assert shlex.split(job["entrypoint"])[4] == "/shared/my search"
