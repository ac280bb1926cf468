"""A finished search as optuna-dashboard shows it."""

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.storages.journal import JournalFileBackend, JournalStorage
from optuna.trial import TrialState

from hpa_search.ledger.journal import JOURNAL
from hpa_search.ledger.ledger import Ledger
from tests.servers.ports import free_port

pytestmark = pytest.mark.long
SPACE = {"learning_rate": FloatDistribution(1e-4, 1e-1, log=True)}


@pytest.fixture
def out(tmp_path):
    """A search of twelve trials, finished, extended, and finished again."""
    ledger = Ledger.create(tmp_path, "toy")
    for number in range(12):
        ledger.add(number, {"learning_rate": 0.001 * (number + 1)}, SPACE, target=1)
        ledger.report(number, 1, number / 100)
    for number in range(12):
        if number % 3:
            ledger.set_aside(number, "not promoted")
        else:
            ledger.end(number, "complete", "done")
    ledger.take_up()
    ledger.report(1, 2, 0.9)
    ledger.end(1, "complete", "done")
    for number in range(12):
        if number % 3 and number != 1:
            ledger.set_aside(number, "not promoted")
    return tmp_path


def test_its_studies_have_no_running_trial(out):
    port = free_port()
    command = [sys.executable, "-c", "from optuna_dashboard._cli import main; main()", str(out / JOURNAL), "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def get(path):
        deadline = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/{path}", timeout=30) as answer:
                    return json.load(answer)
            except (urllib.error.URLError, ConnectionError):
                assert server.poll() is None and time.monotonic() < deadline
                time.sleep(0.2)

    try:
        studies = get("studies")["study_summaries"]
        assert [study["study_name"] for study in studies] == ["toy", "toy, extended 1"]
        for study, complete in zip(studies, (4, 5), strict=True):
            states = [trial["state"] for trial in get(f"studies/{study['study_id']}?after=0")["trials"]]
            assert (states.count("Complete"), states.count("Pruned"), len(states)) == (complete, 12 - complete, 12)
    finally:
        server.terminate()
        server.wait()


def test_optuna_s_own_view_is_right(out):
    study = optuna.load_study(study_name="toy, extended 1", storage=JournalStorage(JournalFileBackend(str(out / JOURNAL))))
    assert (study.best_trial.number, study.best_value) == (1, 0.9)
    assert not study.get_trials(states=(TrialState.RUNNING, TrialState.WAITING))
    frame = study.trials_dataframe()
    assert frame["value"].notna().all() and len(frame) == 12
