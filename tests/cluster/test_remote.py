"""The answer of a helper becomes our answer, and the helper leaves no trace."""

import json

import pytest

from hpa_search.cluster import remote as module
from hpa_search.cluster.answer import MARK
from hpa_search.cluster.remote import HELPER, Answer, RemoteError, ask
from hpa_search.errors import UserError


def answering(log: str, state: str = "SUCCEEDED", message: str = ""):
    def on_send(stand_in, request):
        stand_in.log = log
        stand_in.sent = request
        stand_in.jobs[request["submission_id"]] |= {"status": state, "message": message}

    return on_send


def test_answers_come_from_among_other_lines(stand_in, dashboard):
    answers = [{"code": 0, "out": '{"state": "running"}\n', "err": "a warning\n"}, {"code": 2, "out": "", "err": "Error: no\n"}]
    stand_in.on_send = answering(f"Running entrypoint: python {MARK}\n\n{MARK}{json.dumps(answers)}\na late word\n")
    first, second = ask(dashboard, ["status", "/a b", "--json"], ["pause", "/a b"])
    assert (first.checked(), second.code) == ('{"state": "running"}\n', 2)
    assert stand_in.sent["metadata"] == {HELPER: "pause"}
    assert stand_in.sent["entrypoint"].startswith('python -m hpa_search.cluster.answer \'[["status", "/a b"')
    assert stand_in.jobs == {}


def test_a_refusal_is_told_as_it_was(stand_in, dashboard):
    with pytest.raises(RemoteError) as refusal:
        Answer(code=2, out="", err="a warning\nError: /x: no search here;\ngive another\n").checked()
    assert (str(refusal.value), refusal.value.exit_code) == ("/x: no search here;\ngive another", 2)
    with pytest.raises(RemoteError, match="crashed on the cluster: KeyError: 1") as broken:
        Answer(code=1, out="", err="Traceback\nKeyError: 1\n").checked()
    assert broken.value.exit_code == 1


def test_a_helper_that_cannot_run_is_explained_and_removed(stand_in, dashboard):
    stand_in.on_send = answering("", "FAILED", "runtime_env setup failed:\n no room")
    with pytest.raises(UserError, match="`hpa-search status /x` could not run there: runtime_env setup failed: no room"):
        ask(dashboard, ["status", "/x"])
    assert stand_in.jobs == {}


def test_a_helper_that_never_starts_is_taken_back(stand_in, dashboard, monkeypatch):
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.2)
    with pytest.raises(UserError, match="the cluster has not run the helper"):
        ask(dashboard, ["status", "/x"])
    assert stand_in.jobs == {}
    assert any(asked.startswith("POST") and asked.endswith("/stop") for asked in stand_in.asked)
