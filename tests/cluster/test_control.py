"""Commands at a distance: what is asked of the cluster, and what is made of its answers."""

import json

import pytest

from hpa_search.cluster import control as module
from hpa_search.cluster.answer import MARK
from hpa_search.cluster.control import extend, pause, read_status, resumable, stop
from hpa_search.errors import UserError

OURS = {"hpa_search": "toy", "out": "/shared/toy"}
NO_SEARCH = {"code": 2, "out": "", "err": "Error: /shared/toy: no search here\n"}


def state(word):
    return {"code": 0, "out": json.dumps({"state": word, "seconds": 1.0, "trials": []}), "err": ""}


def said(words):
    return {"code": 0, "out": f"{words}\n", "err": ""}


@pytest.fixture
def cluster(stand_in):
    """Set the answers that the next helpers find, and what becomes of the search's job meanwhile."""

    def set_up(job_state, answers=(), then=None):
        stand_in.add("toy-1", job_state, OURS, message="It waits.")
        stand_in.commands = []

        def on_send(server, request):
            server.log = f"{MARK}{json.dumps(list(answers))}\n"
            server.jobs[request["submission_id"]]["status"] = "SUCCEEDED"
            server.commands.append(request["metadata"]["hpa_search_helper"])
            if then:
                server.jobs["toy-1"]["status"] = then

        stand_in.on_send = on_send
        return stand_in

    return set_up


def stops(server):
    return [asked for asked in server.asked if asked.endswith("/toy-1/stop")]


def test_the_status_is_the_clusters(cluster, dashboard):
    cluster("RUNNING", [state("running")])
    job, found = read_status(dashboard, "toy-1")
    assert (job.name, found["state"]) == ("toy-1", "running")


def test_a_search_that_has_not_begun_is_being_prepared(cluster, dashboard):
    server = cluster("PENDING")
    assert read_status(dashboard, "toy-1")[1] == {"state": "preparing", "seconds": 0.0, "trials": [], "reason": "It waits."}
    assert server.commands == []
    cluster("RUNNING", [NO_SEARCH])
    assert read_status(dashboard, "toy-1")[1]["reason"] == "/shared/toy: no search here"


def test_a_search_that_never_began_is_none(cluster, dashboard):
    cluster("FAILED", [NO_SEARCH])
    with pytest.raises(UserError, match="^/shared/toy: no search here$"):
        read_status(dashboard, "toy-1")


def test_a_folder_that_no_job_is_known_of_comes_with_those_that_are(cluster, dashboard):
    cluster("RUNNING", [NO_SEARCH])
    for refused in (read_status, resumable):
        with pytest.raises(UserError, match=r"no search here .*no job of /shared/typo; it knows toy-1 \(/shared/toy, RUNNING\)"):
            refused(dashboard, "/shared/typo")


def test_a_pause_names_the_next_command_as_it_is_given_from_here(cluster, dashboard, capsys):
    cluster("RUNNING", [state("running"), said("Ends soon. To go on: hpa-search resume /shared/toy")])
    pause(dashboard, "toy-1", wait=False, say=print)
    assert capsys.readouterr().out == f"Ends soon. To go on: hpa-search resume /shared/toy --address {dashboard.address}\n"


def test_a_pause_waits_for_the_jobs_end(cluster, dashboard, capsys):
    cluster("RUNNING", [state("running"), said("Ends soon.")], then="SUCCEEDED")
    pause(dashboard, "/shared/toy", wait=True, say=print)
    assert capsys.readouterr().out.splitlines()[-1] == "toy-1: SUCCEEDED."


@pytest.mark.parametrize(("job", "status"), [("PENDING", None), ("RUNNING", NO_SEARCH), ("RUNNING", state("interrupted"))])
def test_a_pause_that_nobody_would_hear_is_refused(cluster, dashboard, job, status):
    cluster(job, [status, said("No driver is at work.")])
    with pytest.raises(UserError, match="hpa-search stop .* --address http"):
        pause(dashboard, "toy-1", wait=True, say=print)


def test_a_driver_that_hears_is_not_signalled(cluster, dashboard, capsys):
    server = cluster("RUNNING", [state("running"), said("The driver ends now.")], then="SUCCEEDED")
    stop(dashboard, "toy-1", print)
    assert (server.commands, stops(server)) == (["stop"], [])
    assert capsys.readouterr().out.splitlines() == ["The driver ends now.", "toy-1: SUCCEEDED."]


def test_a_driver_that_hears_and_does_not_end_is_signalled(cluster, dashboard, capsys, monkeypatch):
    monkeypatch.setattr(module, "GRACE_SECONDS", 0.1)
    server = cluster("RUNNING", [state("running"), said("The driver ends now.")])
    stop(dashboard, "toy-1", print)
    assert len(stops(server)) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "toy-1: STOPPED."


@pytest.mark.parametrize("status", [NO_SEARCH, state("interrupted")])
def test_a_driver_that_cannot_hear_is_signalled_at_once(cluster, dashboard, status):
    server = cluster("RUNNING", [status, said("No driver is at work.")])
    stop(dashboard, "toy-1", str)
    assert len(stops(server)) == 1


def test_a_job_that_has_not_started_is_taken_back(cluster, dashboard):
    server = cluster("PENDING")
    stop(dashboard, "toy-1", str)
    assert (len(stops(server)), server.commands) == (1, [])


def test_a_job_that_does_not_end_even_so(cluster, dashboard, stand_in, monkeypatch):
    monkeypatch.setattr(module, "GRACE_SECONDS", 0.1)
    monkeypatch.setattr(type(dashboard), "stop", lambda self, name: None)
    cluster("PENDING")
    with pytest.raises(UserError, match="toy-1 is PENDING still .It waits"):
        stop(dashboard, "toy-1", str)


def test_a_job_that_is_over_has_its_search_noted(cluster, dashboard, capsys):
    server = cluster("FAILED", [state("interrupted"), said("No driver is at work on /shared/toy: stopped.")])
    stop(dashboard, "toy-1", print)
    assert (server.commands, stops(server)) == (["stop"], [])
    assert "No driver is at work" in capsys.readouterr().out


def test_extensions_are_passed_on(cluster, dashboard, capsys):
    server = cluster("SUCCEEDED", [said("Extended by 3 trials.")])
    extend(dashboard, "toy-1", ["--trials", "3"], print)
    assert server.commands == ["extend"] and capsys.readouterr().out == "Extended by 3 trials.\n"


def test_a_search_that_somebody_runs_without_a_job_is_not_resumed(cluster, dashboard):
    cluster("RUNNING", [state("running")])
    with pytest.raises(UserError, match="/elsewhere: a driver is at work"):
        resumable(dashboard, "/elsewhere")
    assert resumable(dashboard, "toy-1").job.name == "toy-1"
