"""A log is shown whole and once, whatever happens to the connections. The job's state decides on its end."""

import threading
import time

import pytest

from hpa_search.cluster import follow as module
from hpa_search.cluster.follow import Shown, follow
from hpa_search.cluster.jobs import find_job
from hpa_search.errors import UserError
from tests.servers.dashboard import Said, StandIn

pytestmark = pytest.mark.long

LOG = "".join(f"line {number} of the lög\n" for number in range(40))
OURS = {"hpa_search": "toy", "out": "/shared/toy"}


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(module, "PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(module, "LAST_WORDS_SECONDS", 0.5)


@pytest.fixture
def job(stand_in, dashboard):
    stand_in.log = LOG
    stand_in.add("toy-1", metadata=OURS)
    return find_job(dashboard, "toy-1")


def ends(stand_in: StandIn, after: float, state: str = "SUCCEEDED", **more) -> None:
    def end():
        time.sleep(after)
        stand_in.jobs["toy-1"] |= {"status": state, **more}

    threading.Thread(target=end, daemon=True).start()


def test_each_character_is_written_once():
    written: list[str] = []
    shown = Shown(written.append)
    for begin, text in [(0, "ab"), (2, "cd"), (0, "abc"), (3, "def"), (0, "abcdef"), (0, "")]:
        shown.take(begin, text)
    assert written == ["ab", "cd", "ef"]


@pytest.mark.parametrize("end", ["close", "cut", "refuse"])
def test_the_end_of_a_connection_is_no_end_of_the_job(stand_in, dashboard, job, end):
    stand_in.tails = [Said(0 if end == "refuse" else upto, end) for upto in (100, 17, 230)]
    ends(stand_in, 2.0)
    written: list[str] = []
    assert follow(dashboard, job, written.append, print).state == "SUCCEEDED"
    assert "".join(written) == LOG
    assert stand_in.tails == []


def test_a_silent_connection_is_given_up(stand_in, dashboard, job, monkeypatch):
    monkeypatch.setattr(module, "SILENT_SECONDS", 0.3)
    stand_in.tails = [Said(50, "silence"), Said(90, "silence")]
    ends(stand_in, 1.0)
    written: list[str] = []
    assert follow(dashboard, job, written.append, print).state == "SUCCEEDED"
    assert "".join(written) == LOG


def test_what_the_last_connection_left_out_is_written_too(stand_in, dashboard, job):
    stand_in.tails = [Said(30)]
    stand_in.jobs["toy-1"]["status"] = "STOPPED"
    written: list[str] = []
    assert follow(dashboard, job, written.append, print).state == "STOPPED"
    assert "".join(written) == LOG


def test_a_failed_job_has_a_message(stand_in, dashboard, job):
    stand_in.jobs["toy-1"] |= {"status": "FAILED", "message": "Job supervisor actor died."}
    ended = follow(dashboard, job, print, print)
    assert (ended.state, ended.message) == ("FAILED", "Job supervisor actor died.")


def test_a_log_that_went_with_its_node(stand_in, dashboard, job):
    stand_in.tails, stand_in.log_status = [Said(30)], 500
    stand_in.jobs["toy-1"]["status"] = "FAILED"
    written: list[str] = []
    said: list[str] = []
    assert follow(dashboard, job, written.append, said.append).state == "FAILED"
    assert "".join(written) == LOG[:30]
    assert "The end of the log can no longer be read" in said[-1] and "the node is gone" in said[-1]


def test_a_dashboard_that_is_away_for_a_while(stand_in, dashboard, job):
    stand_in.tails = [Said(60, "silence")]
    written: list[str] = []
    said: list[str] = []
    followed: list[str] = []
    thread = threading.Thread(target=lambda: followed.append(follow(dashboard, job, written.append, said.append).state))
    thread.start()
    while len("".join(written)) < 60:
        time.sleep(0.05)
    stand_in.end()
    time.sleep(4)
    assert thread.is_alive()
    stand_in.start(stand_in.port)
    ends(stand_in, 0.5)
    thread.join(20)
    assert followed == ["SUCCEEDED"]
    assert "".join(written) == LOG
    assert "does not answer" in said[0] and "answers again" in said[-1]


def test_a_job_that_is_forgotten_meanwhile(stand_in, dashboard, job):
    stand_in.jobs.clear()
    with pytest.raises(UserError, match="does not know toy-1 any more"):
        follow(dashboard, job, print, print)


def test_a_token_that_is_not_taken_any_more(stand_in, dashboard, job):
    stand_in.status = 403
    with pytest.raises(UserError, match="asks for a token"):
        follow(dashboard, job, print, print)
