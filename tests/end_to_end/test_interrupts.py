"""Ctrl-C, a closed terminal and a reader that leaves, at whatever moment: an end within seconds, or none at all."""

import subprocess
import time

import pytest

from hpa_search.ledger.ledger import Ledger
from hpa_search.ledger.status import read_status
from hpa_search.search.log import LOG
from tests.end_to_end.small_search import HPA, environment, make_files, run_command
from tests.end_to_end.terminal import Terminal

pytestmark = pytest.mark.ray
END_SECONDS = 10


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A search of many epochs, whose images are packed."""
    made = tmp_path_factory.mktemp("small")
    make_files(made, trials=6, epochs=40)
    return made


@pytest.fixture
def terminal(folder, tmp_path):
    found = Terminal(run_command(folder, tmp_path / "out"), environment(TMPDIR=str(tmp_path)), tmp_path)
    yield found
    found.end()


def check_end(terminal, tmp_path, code):
    before = time.monotonic()
    assert terminal.wait(END_SECONDS), f"not ended after {END_SECONDS} s:\n{terminal.text[-2000:]}"
    print(f"ended after {time.monotonic() - before:.1f} s")
    assert terminal.code == code, terminal.text[-2000:]
    assert "Traceback" not in terminal.text
    assert terminal.left_behind() == []
    assert list(tmp_path.glob("hpa-search-*")) == []


MOMENTS = [0.5, 1, 2, 4, 6, 9, 13, 18, 24, 30]


@pytest.mark.parametrize("seconds", [pytest.param(s, marks=() if s in (9, 24) else pytest.mark.slow) for s in MOMENTS])
def test_ctrl_c_ends_a_search_within_ten_seconds_and_it_goes_on(terminal, folder, tmp_path, seconds):
    assert not terminal.wait(seconds)
    terminal.ctrl_c()
    check_end(terminal, tmp_path, 130)
    if (tmp_path / "out" / "study.journal").exists():
        before = Ledger.open(tmp_path / "out").trials()
        assert read_status(tmp_path / "out")["state"] == "interrupted"
        again = Terminal([*run_command(folder, tmp_path / "out")], environment(TMPDIR=str(tmp_path)), tmp_path)
        try:
            again.wait_for("0 of 6 trials" if not before else "1 running")
            again.wait(2)
            again.ctrl_c()
            assert again.wait(END_SECONDS)
            assert again.left_behind() == []
        finally:
            again.end()
        after = {trial.number: trial for trial in Ledger.open(tmp_path / "out").trials()}
        assert all(trial.reports.items() <= after[trial.number].reports.items() for trial in before)


@pytest.mark.parametrize("moment", [pytest.param(2.0, marks=pytest.mark.slow), pytest.param(12.0, marks=pytest.mark.slow), None])
def test_a_closed_terminal_ends_a_search_and_its_log_says_so(terminal, tmp_path, moment):
    if moment is None:
        terminal.wait_for("1 running")
    else:
        terminal.wait(moment)
    terminal.close()
    check_end(terminal, tmp_path, 130)
    if moment is None:
        assert (tmp_path / "out" / LOG).read_text().splitlines()[-1].split(" ", 2)[2].startswith("Interrupted")


def test_a_search_whose_reader_leaves_goes_on_and_writes_its_own_log(folder, tmp_path):
    make_files(tmp_path)
    out = tmp_path / "out"
    with (tmp_path / "errors").open("wb") as errors:
        search = subprocess.Popen(run_command(tmp_path, out), stdout=subprocess.PIPE, stderr=errors, env=environment())
        search.stdout.readline()
        search.stdout.close()
        assert search.wait(240) == 0
    assert (tmp_path / "errors").read_text() == ""
    assert read_status(out)["state"] == "finished"
    log = (out / LOG).read_text()
    assert "trial 1: epoch 1, macro_ap" in log and "Test macro F1" in log
    shown = subprocess.run([HPA, "status", str(out)], capture_output=True, text=True, check=True, env=environment())
    assert shown.stdout.startswith("finished")
