"""submit, list and logs."""

import json
import shlex

import pytest

from hpa_search.cli import main

OURS = {"hpa_search": "toy", "out": "/shared/toy"}


def test_a_search_is_submitted_as_a_job(hpa, stand_in, address, space):
    places = ("--data", "/shared/hpa", "--out", "/shared/toy", "--external", "/shared/more", "--cache", "/local")
    lines = hpa("submit", space, "--address", address, *places).splitlines()
    ((name, job),) = stand_in.jobs.items()
    assert lines[0] == f"Submitted as {name}."
    assert shlex.split(job["entrypoint"])[3:] == [
        "run", "search.yaml", "--data", "/shared/hpa", "--out", "/shared/toy", "--external", "/shared/more", "--cache", "/local",
        "--ray", "auto",
    ]  # fmt: skip
    for line in lines[1:]:
        shown, *given = shlex.split(line[12:])
        assert shown == "hpa-search" and main.get_command(None, given[0]).make_context(given[0], given[1:])


def test_a_relative_path_cannot_be_submitted(hpa, stand_in, address, space):
    said = hpa("submit", space, "--address", address, "--data", "hpa", "--out", "/shared/toy", code=2)
    assert "--data hpa: give an absolute path or a URL" in said and stand_in.jobs == {}


def test_the_jobs_are_listed(hpa, stand_in, address):
    stand_in.add("toy-1", "SUCCEEDED", OURS, start_time=1_000_000, end_time=1_090_000)
    stand_in.add("somebody's", "RUNNING", {})
    title, row = hpa("list", "--address", address).splitlines()
    assert title.split()[0] == "JOB" and row.split()[:3] == ["toy-1", "toy", "SUCCEEDED"]
    (found,) = json.loads(hpa("list", "--address", address, "--json"))
    assert (found["name"], found["seconds"]) == ("toy-1", 90.0)


def test_a_log_is_printed_as_it_is(hpa, stand_in, address):
    stand_in.add("toy-1", "RUNNING", OURS)
    stand_in.log = "one\ntwo, without an end"
    assert hpa("logs", "/shared/toy", "--address", address) == stand_in.log
    assert "knows no job or search toy-2" in hpa("logs", "toy-2", "--address", address, code=2)


@pytest.mark.parametrize(("state", "code"), [("SUCCEEDED", 0), ("STOPPED", 130), ("FAILED", 1)])
def test_a_followed_log_ends_with_the_jobs_exit_code(hpa, stand_in, address, state, code):
    message = "The driver ended, last available logs (truncated): one"
    stand_in.add("toy-1", state, OURS, message=message)
    stand_in.log = "one\n"
    said = hpa("logs", "toy-1", "--address", address, "--follow", code=code)
    assert said.splitlines() == ["one", f"toy-1: {state}. The driver ended"]
