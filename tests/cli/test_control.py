"""status, pause, stop, extend and resume, with and without a cluster."""

import json
import shlex

import pytest

from hpa_search.engine.commands import COMMANDS
from hpa_search.space.limits import MOST_EPOCHS, MOST_HOURS, MOST_TRIALS


def answer(out, code=0):
    return {"code": code, "out": f"{out}\n", "err": ""}


def facts(state, *trials):
    return answer(json.dumps({"state": state, "seconds": 3.0, "trials": list(trials)}))


def asked(server):
    """Return the commands that the helpers have run on the cluster."""
    return [json.loads(shlex.split(entrypoint)[-1]) for entrypoint in server.commands]


def test_the_state_of_a_search_here(hpa, out):
    first, trial = hpa("status", out).splitlines()
    assert first == "interrupted, 0 s spent, 1 trials"
    assert trial.split() == ["0", "complete", "2", "epochs", "best", "0.5000", *["trained", "to", "the", "end"]]
    found = json.loads(hpa("status", out, "--json"))
    assert (found["state"], found["seconds"]) == ("interrupted", 0.0) and found["trials"][0]["epochs"] == 2


def test_a_watch_ends_with_the_driver(hpa, out):
    assert "interrupted, 0 s spent" in hpa("status", out, "--watch")
    assert json.loads(hpa("status", out, "--watch", "--json"))["state"] == "interrupted"


def test_a_search_without_a_driver_is_noted_as_paused_or_stopped(hpa, out):
    assert hpa("pause", out, "--wait") == f"No driver is at work on {out}: paused. To resume: hpa-search resume {out}\n"
    assert json.loads(hpa("status", out, "--json"))["state"] == "paused"
    assert f"on {out}: stopped." in hpa("stop", out)
    assert json.loads(hpa("status", out, "--json"))["state"] == "stopped"


def test_a_starting_driver_is_not_noted_as_stopped(hpa, out):
    for command in ("pause", "stop"):
        assert hpa(command, out, "--coming") == f"The driver of {out} is starting and reads no commands yet.\n"
    assert json.loads(hpa("status", out, "--json"))["state"] == "interrupted"


def test_an_extension_is_kept_for_the_next_resume(hpa, out):
    assert hpa("extend", out, "--trials", 3) == f"Extended by 3 trials, from the next resume on: hpa-search resume {out}\n"
    assert len(list((out / COMMANDS).iterdir())) == 1
    assert "give --trials, --hours or --epochs" in hpa("extend", out, code=2)
    assert "is not limited by epochs" in hpa("extend", out, "--epochs", 3, code=2)


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--trials", MOST_TRIALS + 1, "Invalid value for '--trials': 100001 is not in the range"),
        ("--hours", MOST_HOURS + 0.5, "Invalid value for '--hours': 10000.5 is not in the range"),
        ("--hours", "nan", "extend: hours: expected a number at least 0 and at most 10000 (given: nan)"),
        ("--epochs", MOST_EPOCHS + 1, "Invalid value for '--epochs': 100000001 is not in the range"),
    ],
)
def test_an_extension_has_bounds(hpa, out, option, value, words):
    assert words in hpa("extend", out, option, value, code=2)
    assert not (out / COMMANDS).exists()


def test_the_largest_extension_is_taken(hpa, out):
    assert hpa("extend", out, "--trials", MOST_TRIALS).startswith(f"Extended by {MOST_TRIALS:g} trials")


def test_a_resume_needs_a_search_and_its_data(hpa, out, tmp_path):
    assert "no search here" in hpa("resume", tmp_path, code=2)
    said = hpa("resume", out, "--data", tmp_path / "gone", code=2)
    assert f"{tmp_path / 'gone'}: dataset of the search in {out} not found; give the new place with --data" in said


def test_the_state_of_a_search_on_a_cluster(hpa, cluster, address):
    server = cluster("RUNNING", [facts("running")])
    assert hpa("status", "toy-1", "--address", address) == "toy-1: RUNNING\nrunning, 3 s spent, 0 trials\n"
    assert json.loads(hpa("status", "/shared/toy", "--address", address, "--json"))["state"] == "running"
    assert asked(server) == [[["status", "/shared/toy", "--json"]]] * 2
    server.jobs["toy-1"] |= {"status": "PENDING", "message": "It waits for a node."}
    assert hpa("status", "toy-1", "--address", address) == "toy-1: PENDING\nIt waits for a node.\n"


def test_a_watch_of_a_cluster_ends_with_the_driver(hpa, cluster, address):
    cluster("SUCCEEDED", [facts("finished")])
    assert "finished, 3 s spent" in hpa("status", "toy-1", "--address", address, "--watch")


def test_a_pause_on_a_cluster_says_what_the_cluster_said(hpa, cluster, address):
    server = cluster("RUNNING", [facts("running"), answer("The driver of /shared/toy ends after the running epochs.")])
    said = hpa("pause", "toy-1", "--address", address, "--coming")
    assert said == "The driver of /shared/toy ends after the running epochs.\n"
    assert asked(server) == [[["status", "/shared/toy", "--json"], ["pause", "/shared/toy", "--coming"]]]


def test_a_stop_on_a_cluster_waits_without_being_asked_to(hpa, cluster, address):
    cluster("PENDING", [])
    lines = hpa("stop", "toy-1", "--address", address).splitlines()
    assert lines == ["Ending toy-1 (PENDING) by Ray's signals; it has 60 s to end by itself.", "toy-1: STOPPED."]


def test_an_extension_on_a_cluster_passes_its_options_on(hpa, cluster, address):
    server = cluster("RUNNING", [answer("The search in /shared/toy is extended by 2 trials, 0.5 hours.")])
    assert "is extended by" in hpa("extend", "toy-1", "--address", address, "--trials", 2, "--hours", 0.5)
    assert asked(server) == [[["extend", "/shared/toy", "--trials", "2", "--hours", "0.5"]]]


def test_a_refusal_on_a_cluster_has_its_exit_code(hpa, cluster, address):
    refusal = {"code": 7, "out": "", "err": "Error: /shared/toy: the disk is full\n"}
    cluster("FAILED", [refusal])
    assert "Error: /shared/toy: the disk is full\n" in hpa("extend", "toy-1", "--address", address, "--trials", 2, code=7)


def test_a_resume_on_a_cluster_is_a_new_job(hpa, stand_in, cluster, address):
    cluster("FAILED", [])
    assert hpa("resume", "toy-1", "--address", address).startswith("Submitted as toy-")
    job = list(stand_in.jobs.values())[-1]
    assert shlex.split(job["entrypoint"])[3:] == ["resume", "/shared/toy", "--cache", "/local", "--ray", "auto"]
    assert "already" in hpa("resume", "toy-1", "--address", address, code=2)


def test_only_a_cache_on_the_command_line_reaches_the_nodes(hpa, stand_in, cluster, address, monkeypatch):
    monkeypatch.setenv("HPA_SEARCH_CACHE", "/of/this/machine")
    cluster("FAILED", [])
    hpa("resume", "/shared/toy", "--address", address, "--cache", "/of/the/nodes", "--data", "/moved")
    job = list(stand_in.jobs.values())[-1]
    assert shlex.split(job["entrypoint"])[5:] == ["--data", "/moved", "--cache", "/of/the/nodes", "--ray", "auto"]
    assert job["metadata"]["cache"] == "/of/the/nodes"


def test_a_ray_to_join_and_an_address_exclude_each_other(hpa):
    said = hpa("resume", "toy-1", "--address", "http://127.0.0.1:9", "--ray", "auto", code=2)
    assert "give only one of them" in said
