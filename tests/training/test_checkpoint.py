import builtins
import csv
import errno
import logging
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from hpa_search.errors import UserError
from hpa_search.system_errors import Refused
from hpa_search.training.checkpoint import (
    Checkpoint,
    best_epoch,
    load_checkpoint,
    read_logits,
    read_objectives,
    save_checkpoint,
    weights_path,
)


def checkpoint(objectives, identity=None):
    """What a trial would save after as many epochs as there are objectives; its weights say the epoch."""
    epochs = range(1, len(objectives) + 1)
    weight = torch.nn.Parameter(torch.full((2, 3), float(len(objectives))))
    optimizer = torch.optim.AdamW([weight], lr=0.1)
    weight.sum().backward()
    optimizer.step()
    return Checkpoint(
        identity=identity or {"seed": 1},
        history=tuple({"epoch": epoch, "objective": value} for epoch, value in zip(epochs, objectives, strict=True)),
        network={"weight": weight, "steps": torch.tensor(5)},
        optimizer=optimizer.state_dict(),
        logits={epoch: np.full((4, 28), epoch, dtype=np.float16) for epoch in epochs},
    )


def save_each(folder, objectives):
    for count in range(1, len(objectives) + 1):
        save_checkpoint(folder, checkpoint(objectives[:count]))


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_comes_back_as_it_was_saved(tmp_path):
    saved = checkpoint([0.1, 0.3, 0.2], identity={"config": {"gamma": None}, "seed": 3})
    save_each(tmp_path, [0.1, 0.3])
    save_checkpoint(tmp_path, saved)
    loaded = load_checkpoint(tmp_path)
    assert (loaded.identity, loaded.history, loaded.epoch) == (saved.identity, saved.history, 3)
    assert torch.equal(loaded.network["weight"], saved.network["weight"])
    state, expected = loaded.optimizer["state"][0], saved.optimizer["state"][0]
    assert torch.equal(state["exp_avg"], expected["exp_avg"])
    assert torch.equal(state["step"], expected["step"])
    assert [float(loaded.logits[epoch][0, 0]) for epoch in (1, 2, 3)] == [1, 2, 3]


def test_only_the_last_and_the_best_weights_stay(tmp_path):
    save_each(tmp_path, [0.1, 0.5, 0.3, 0.2])
    assert files(tmp_path) == [
        "checkpoint.pt",
        "logits.npz",
        "metrics.csv",
        "weights/epoch-002.safetensors",
        "weights/epoch-004.safetensors",
    ]


def test_metrics_are_one_row_an_epoch(tmp_path):
    save_each(tmp_path, [0.25, 0.5])
    rows = list(csv.DictReader((tmp_path / "metrics.csv").open()))
    assert rows == [{"epoch": "1", "objective": "0.25"}, {"epoch": "2", "objective": "0.5"}]


def test_objectives_come_back_exactly(tmp_path):
    save_each(tmp_path, [0.1, 1 / 3])
    assert read_objectives(tmp_path) == {1: 0.1, 2: 1 / 3}


@pytest.mark.parametrize(
    "content", [None, b"", b"\x00" * 40, b"\xff\xfe", b"epoch\n1\n", b"epoch,objective\n1\n", b"epoch,objective\n2,0.5\n"]
)
@pytest.mark.parametrize(("name", "read"), [("metrics.csv", read_objectives), ("logits.npz", read_logits)])
def test_a_damaged_file_is_named(tmp_path, name, read, content):
    save_each(tmp_path, [0.1])
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=f"{name} cannot be read"):
        read(tmp_path)


def test_metrics_are_written_before_the_weights_of_the_epoch_before_go(tmp_path, monkeypatch):
    save_each(tmp_path, [0.1])
    unlink = Path.unlink

    def die(path, missing_ok=False):
        if path.suffix == ".safetensors" and not path.name.startswith("."):
            raise KeyboardInterrupt
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", die)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(tmp_path, checkpoint([0.1, 0.5]))
    assert read_objectives(tmp_path) == {1: 0.1, 2: 0.5}


def test_of_equal_epochs_the_earliest_is_best():
    assert best_epoch(checkpoint([0.1, 0.4, 0.4]).history) == 2


def test_logits_are_plain_arrays(tmp_path):
    save_each(tmp_path, [0.1, 0.2])
    logits = read_logits(tmp_path)
    assert {epoch: (values.dtype.name, values.shape) for epoch, values in logits.items()} == {
        1: ("float16", (4, 28)),
        2: ("float16", (4, 28)),
    }


def test_an_empty_folder_has_no_checkpoint_and_no_warning(tmp_path, caplog):
    assert load_checkpoint(tmp_path / "absent") is None
    assert not caplog.records


@pytest.mark.parametrize(
    "name", ["checkpoint.pt", "logits.npz", "weights/epoch-003.safetensors", "weights/epoch-002.safetensors"]
)
@pytest.mark.parametrize("damage", ["missing", "empty", "half", "noise"])
def test_a_damaged_file_means_starting_again(tmp_path, caplog, name, damage):
    save_each(tmp_path, [0.1, 0.5, 0.3])
    path = tmp_path / name
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes({"empty": b"", "half": content[: len(content) // 2], "noise": b"\x93" * len(content)}[damage])
    with caplog.at_level(logging.WARNING):
        assert load_checkpoint(tmp_path) is None
    # A trial without checkpoint.pt is new: no warning.
    assert ("starts again" in caplog.text) == ((name, damage) != ("checkpoint.pt", "missing"))


def test_without_its_best_weights_a_trial_starts_again(tmp_path, caplog):
    save_each(tmp_path, [0.1, 0.5, 0.3])
    weights_path(tmp_path, 2).unlink()
    assert load_checkpoint(tmp_path) is None
    assert "epoch-002" in caplog.text


def test_no_code_is_run_from_a_checkpoint(tmp_path):
    class Trap:
        def __reduce__(self):
            return (exec, ("raise SystemExit('trapped')",))

    save_each(tmp_path, [0.1])
    torch.save({"history": Trap()}, tmp_path / "checkpoint.pt")
    assert load_checkpoint(tmp_path) is None


def test_stopped_before_the_checkpoint_was_renamed_the_epoch_before_is_used(tmp_path):
    """Logits and weights of epoch 3 are there, checkpoint.pt is still that of epoch 2, and a part of a new one lies about."""
    save_each(tmp_path, [0.1, 0.5])
    before = (tmp_path / "checkpoint.pt").read_bytes()
    save_checkpoint(tmp_path, checkpoint([0.1, 0.5, 0.3]))
    (tmp_path / "checkpoint.pt").write_bytes(before)
    (tmp_path / ".checkpoint.pt.99.abcdef").write_bytes(before[:50])
    (tmp_path / ".error.txt.99.abcdef").write_text("another process is writing this")
    loaded = load_checkpoint(tmp_path)
    assert loaded.epoch == 2
    assert sorted(loaded.logits) == [1, 2]
    assert ".checkpoint.pt.99.abcdef" not in files(tmp_path)
    assert ".error.txt.99.abcdef" in files(tmp_path)
    assert "weights/epoch-003.safetensors" not in files(tmp_path)
    assert len((tmp_path / "metrics.csv").read_text().splitlines()) == 3


@pytest.mark.parametrize("epochs", [[], [2], [1, 3]])
def test_epochs_without_logits_are_refused(epochs):
    whole = checkpoint([0.1, 0.2])
    with pytest.raises(ValueError, match="without holes"):
        Checkpoint(whole.identity, whole.history, whole.network, whole.optimizer, dict.fromkeys(epochs, whole.logits[1]))


def test_channels_last_weights_are_saved(tmp_path):
    saved = checkpoint([0.1])
    weight = torch.randn(4, 3, 5, 5).to(memory_format=torch.channels_last)
    save_checkpoint(tmp_path, Checkpoint(saved.identity, saved.history, {"w": weight}, saved.optimizer, saved.logits))
    assert torch.equal(load_checkpoint(tmp_path).network["w"], weight)
    assert weights_path(tmp_path, 1).exists()


def test_what_a_file_server_keeps_beside_the_weights_stays(tmp_path):
    save_each(tmp_path, [0.1])
    (tmp_path / "weights" / "@eaDir").mkdir()
    (tmp_path / "weights" / ".epoch-001.safetensors.77.abcdef01").touch()  # left by a kill
    save_each(tmp_path, [0.1, 0.2])
    assert sorted(path.name for path in (tmp_path / "weights").iterdir()) == ["@eaDir", "epoch-002.safetensors"]


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.EMFILE, errno.ESTALE])
@pytest.mark.parametrize("name", ["checkpoint.pt", "logits.npz"])
def test_an_unreadable_checkpoint_does_not_restart_the_trial(tmp_path, monkeypatch, name, number):
    """A disk that is away for a while costs no trial."""
    save_each(tmp_path, [0.1, 0.2])
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    opened = builtins.open

    def refuse(path, *rest, **more):
        if str(path).endswith(name):
            raise OSError(number, os.strerror(number), str(path))
        return opened(path, *rest, **more)

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(Refused, match=name):
        load_checkpoint(tmp_path)
    monkeypatch.undo()
    assert load_checkpoint(tmp_path).epoch == 2
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
