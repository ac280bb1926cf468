import subprocess
import sys
from types import SimpleNamespace

import pytest

from hpa_search.engine import entry
from hpa_search.engine.entry import enter, packed


@pytest.fixture
def told(monkeypatch):
    """Return what the mailbox is told."""
    monkeypatch.setattr(entry, "ray", SimpleNamespace(get=lambda answer: answer))
    return []


def mailbox(told):
    return SimpleNamespace(cannot_begin=SimpleNamespace(remote=lambda slot, why: told.append((slot, why))))


def test_a_worker_runs_the_loop_with_the_trials(told, capsys):
    box = mailbox(told)

    def loop(given_box, slot, trials):
        print(given_box.cannot_begin is not None, slot, trials)

    enter({"mailbox": box, "slot": 3, "work": packed(loop, "trials")})
    assert capsys.readouterr().out == "True 3 trials\n"
    assert told == []


def test_work_that_cannot_be_opened_is_told_and_raises_nothing(told, tmp_path, monkeypatch, capsys):
    (tmp_path / "gone.py").write_text("def trials(): ...\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import gone

    work = packed(lambda *given: None, gone.trials)
    (tmp_path / "gone.py").unlink()
    monkeypatch.delitem(sys.modules, "gone")
    enter({"mailbox": mailbox(told), "slot": 3, "work": work})
    assert told == [(3, "ModuleNotFoundError: No module named 'gone'")]
    assert "Traceback" in capsys.readouterr().err


def test_an_error_of_the_loop_is_raised(told):
    def loop(mailbox, slot, trials):
        raise ValueError("of the loop")

    with pytest.raises(ValueError, match="of the loop"):
        enter({"mailbox": mailbox(told), "slot": 0, "work": packed(loop, None)})
    assert told == []


def test_what_the_controller_imports_is_light():
    program = "import sys, hpa_search.engine.entry, hpa_search.engine.train_run; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not {"timm", "torchvision", "sklearn", "optuna"} & set(loaded)
