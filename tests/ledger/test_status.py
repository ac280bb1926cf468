import json

from optuna.distributions import FloatDistribution

from hpa_search.ledger import lease
from hpa_search.ledger.ledger import Ledger
from hpa_search.ledger.status import FINISHED, read_status

SPACE = {"learning_rate": FloatDistribution(1e-4, 1e-1, log=True)}


def fill(ledger):
    """Trials 0 complete, 1 paused, 2 in training, 3 failed."""
    for epochs, target in ((3, 3), (1, 1), (1, 3), (0, 1)):
        number = len(ledger.trials())
        ledger.add(number, {"learning_rate": 0.01}, SPACE, target=target)
        for epoch in range(1, epochs + 1):
            ledger.report(number, epoch, 0.1 * epoch)
    ledger.end(0, "complete", "trained to the end")
    ledger.end(3, "failed", "ValueError: no")


def states(out):
    return [trial["state"] for trial in read_status(out)["trials"]]


def test_states_of_a_running_an_interrupted_and_a_finished_search(tmp_path):
    held = lease.take(tmp_path, "toy")
    fill(held.ledger)
    assert read_status(tmp_path)["state"] == "running"
    assert states(tmp_path) == ["complete", "paused", "running", "failed"]
    held.release()
    assert read_status(tmp_path)["state"] == "interrupted"
    assert states(tmp_path) == ["complete", "paused", "waiting", "failed"]
    Ledger.create(tmp_path, "toy").note(FINISHED, True)
    assert read_status(tmp_path)["state"] == "finished"


def test_it_is_json_as_designed(tmp_path):
    fill(Ledger.create(tmp_path, "toy"))
    trial = json.loads(json.dumps(read_status(tmp_path)))["trials"][0]
    assert set(trial) == {"number", "state", "parameters", "epochs", "reports", "ended"}
    assert trial["reports"] == [
        {"epoch": 1, "objective": 0.1},
        {"epoch": 2, "objective": 0.2},
        {"epoch": 3, "objective": 0.1 * 3},
    ]


def test_reading_writes_nothing(tmp_path):
    fill(Ledger.create(tmp_path, "toy"))
    before = (tmp_path / "study.journal").read_bytes()
    read_status(tmp_path)
    assert (tmp_path / "study.journal").read_bytes() == before
