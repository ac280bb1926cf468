import io
import time

from rich.console import Console

from hpa_search.ledger.ledger import TrialRecord
from hpa_search.search.leg import EpochReport, Leg
from hpa_search.search.log import LOG, SearchLog
from hpa_search.search.view import View


def play(view):
    view.started(Leg(1, 0, {"loss": "bce", "learning_rate": 0.0123456}, 0, 1))
    view.reported(0, EpochReport.of({"epoch": 1, "objective": 0.5}))
    view.ended(0, "paused", "waits at epoch 1")
    view.started(Leg(1, 1, {"loss": "focal", "learning_rate": 0.001}, 0, 1))
    view.reported(1, EpochReport.of({"epoch": 1, "objective": 0.25}))


def test_plain_lines_where_the_output_is_not_a_terminal(make_search):
    text = io.StringIO()
    view = View(make_search(), Console(file=text, width=40, soft_wrap=True))
    with view.showing():
        play(view)
    lines = text.getvalue().splitlines()
    assert len(lines) == 5
    assert "trial 0: to epoch 1 (loss=bce, learning_rate=0.0123)" in lines[0]
    assert "trial 1: epoch 1, macro_ap 0.2500; best 0.5000 (trial 0)" in lines[4]
    assert "\x1b" not in text.getvalue()


def test_a_table_on_a_terminal(make_search):
    text = io.StringIO()
    view = View(make_search(), Console(file=text, width=120, force_terminal=True))
    with view.showing():
        play(view)
    shown = text.getvalue()
    for words in ("macro_ap", "0.5000", "paused", "2 of 12 trials", "rungs 1, 3, 9", "min left"):
        assert words in shown


def test_a_resumed_search_shows_its_earlier_trials(make_search):
    text = io.StringIO()
    view = View(make_search(), Console(file=text, width=120, force_terminal=True))
    with view.showing():
        view.resumed([TrialRecord(0, {}, 1, {1: 0.75}, None, None), TrialRecord(1, {}, 3, {1: 0.5}, None, None)], 60.0)
        view.started(Leg(1, 1, {}, 1, 3))
        view.reported(1, EpochReport.of({"epoch": 2, "objective": 0.25}))
    shown = text.getvalue()
    assert "paused" in shown and "0.7500" in shown and "2/3" in shown


def test_the_clock_runs_beyond_a_day(make_search, monkeypatch):
    text = io.StringIO()
    view = View(make_search(), Console(file=text, width=200, soft_wrap=True))
    now = time.monotonic()
    for hours, shown in ((0, "00:00:01"), (25, "25:00:01"), (1000, "1000:00:01")):
        monkeypatch.setattr(view, "_began", now - hours * 3600 - 1)
        monkeypatch.setattr(time, "monotonic", lambda: now)
        view.ended(0, "complete", "trained to the end")
        assert text.getvalue().splitlines()[-1].startswith(f"{shown} trial 0")


def test_what_stands_in_the_live_table_is_in_the_log_line_by_line(make_search, tmp_path):
    log = SearchLog()
    log.open(tmp_path)
    view = View(make_search(), Console(file=io.StringIO(), force_terminal=True, width=60), log)
    with view.showing():
        play(view)
        view.say("a word")
    lines = (tmp_path / LOG).read_text().splitlines()
    assert len(lines) == 6 and lines[-1].endswith(" a word") and "trial 0: epoch 1, macro_ap 0.5000" in lines[1]
