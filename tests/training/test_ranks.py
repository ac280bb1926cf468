"""Trials that two processes train together, by gloo, against the same trials trained by one.

All of them are trained by one start of the processes, which is what takes the time.
"""

import copy
import json
from contextlib import nullcontext

import numpy as np
import pytest
import safetensors.torch
import torch
import torch.distributed as dist
import torch.multiprocessing

from hpa_search.config import TrialConfig
from hpa_search.training.batch_norm import WholeBatch
from hpa_search.training.checkpoint import read_logits, weights_path
from hpa_search.training.device import choose_device
from hpa_search.training.gradients import Rows, backward
from hpa_search.training.memory import MEMORY
from hpa_search.training.ranks import lost_another
from tests.training.group import BATCH_NORM, COMMON, NO_BATCH_NORM, data_for, together, train
from tests.training.test_out_of_memory import memory_for
from tests.training.trial import EPOCHS, make_trainer, timeless

pytestmark = pytest.mark.long

TRIALS = {
    "no batch norm": NO_BATCH_NORM,
    "batch norm": BATCH_NORM,
    "batch norm with an activation": {**COMMON, "backbone": "test_efficientnet"},
    "batch norms of single values": {**BATCH_NORM, "head": "avg_max"},
    "standardised weights": {**COMMON, "backbone": "test_nfnet"},
    "soft F1": {**BATCH_NORM, "loss": "soft_f1"},
    "focal, clipped": {**BATCH_NORM, "loss": "focal", "clip_norm": 0.1},
    "strong augmentation": {**BATCH_NORM, "augment": "strong"},
    "average, Adam": {**BATCH_NORM, "ema": 0.9, "optimizer": "adamw", "learning_rate": 1e-3},
    "frozen, then free, then a second stage": {**BATCH_NORM, "freeze": "head", "freeze_epochs": 2, "last_epochs": 1},
    "sampling, by the validation loss": {**BATCH_NORM, "sampling": "sqrt", "schedule": "plateau", "schedule_epochs": 1},
    "crops": {**BATCH_NORM, "resolution": "crop", "small_size": 224, "crop_size": 32},
}


TO_THE_END = ("batch norm", "average, Adam", "soft F1", "frozen, then free, then a second stage")
"""The others are trained for two epochs."""


WITH_LITTLE_MEMORY = {
    "four at a time": NO_BATCH_NORM,
    "four at a time, soft F1, average": {**NO_BATCH_NORM, "loss": "soft_f1", "ema": 0.9},
    "four at a time, frozen": {**NO_BATCH_NORM, "freeze": "head", "freeze_epochs": 1},
    "four at a time, batch norm": BATCH_NORM,
}
"""Trained for two epochs; each part of a share of 8 or 9 rows has three at most."""


def epochs_of(name):
    return EPOCHS if name in TO_THE_END else 2


def everything(ranks, folder):
    """Do all that two workers do in these tests."""
    histories = {name: train(folder / name, settings, ranks, epochs_of(name)) for name, settings in TRIALS.items()}
    first = train(folder / "in two parts", BATCH_NORM, ranks, epochs=2)
    histories["in two parts"] = first + train(folder / "in two parts", BATCH_NORM, ranks)
    for name, settings in WITH_LITTLE_MEMORY.items():
        with memory_for(4):
            histories[name] = train(folder / name, settings, ranks, epochs=2, micro_batch=4)
    with memory_for(4, training=False) if ranks.rank == 1 else nullcontext():
        train(folder / "judged", NO_BATCH_NORM, ranks, epochs=1)
    return {
        "histories": histories,
        "errors": whole_batch_norms(ranks),
        "errors in parts": norms_over_parts(ranks),
        "gathered": gathers(ranks),
        "least": ranks.least(7 - ranks.rank),
    }


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """What each of two workers found; their trials' folders are in that of the first value."""
    folder = tmp_path_factory.mktemp("together")
    return folder, together(folder, everything)


@pytest.fixture(scope="module")
def trained_together(both):
    folder, results = both
    return folder, [result["histories"] for result in results]


@pytest.mark.parametrize("name", TRIALS)
def test_two_workers_train_as_one_does(trained_together, tmp_path, name):
    folder, histories = trained_together
    expected = timeless(train(tmp_path, TRIALS[name], epochs=epochs_of(name)))
    for history in histories:
        for row, wanted in zip(timeless(history[name]), expected, strict=True):
            for metric in ("train_loss", "validation_loss", "learning_rate"):
                assert row[metric] == pytest.approx(wanted[metric], abs=1e-4)
    for epoch, logits in read_logits(tmp_path).items():
        np.testing.assert_allclose(read_logits(folder / name)[epoch].astype(float), logits.astype(float), atol=0.01)


@pytest.mark.parametrize("name", TRIALS)
def test_all_workers_have_the_same_metrics(trained_together, name):
    first, second = (timeless(history[name]) for history in trained_together[1])
    assert first == second


@pytest.mark.parametrize(
    "name", [name for name, settings in WITH_LITTLE_MEMORY.items() if settings["backbone"] == "test_convnext"]
)
def test_a_few_images_at_a_time_two_workers_train_as_one_with_memory_for_all(trained_together, tmp_path, name):
    folder, histories = trained_together
    expected = timeless(train(tmp_path, WITH_LITTLE_MEMORY[name], epochs=2))
    for history in histories:
        for row, wanted in zip(timeless(history[name]), expected, strict=True):
            assert row == pytest.approx(wanted, abs=1e-4)
    assert (folder / name / MEMORY).read_text() == "epoch 1: out of memory on one of 2 workers; 4 images at a time from now on\n"


def norms_over_parts(ranks):
    """Return by how much two images of each of two workers at a time differ from these four at a time of one worker.

    Of the loss, the gradients, and the norm's statistics.
    """
    torch.manual_seed(0)
    layers = torch.nn.Conv2d(4, 6, 3), torch.nn.BatchNorm2d(6), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1)
    alone = torch.nn.Sequential(*layers, torch.nn.Flatten(), torch.nn.Linear(6, 28))
    together = copy.deepcopy(alone)
    images, labels = torch.randn(8, 4, 9, 9) * torch.arange(1.0, 9.0).view(-1, 1, 1, 1), (torch.rand(8, 28) < 0.3).float()
    order = [0, 1, 4, 5, 2, 3, 6, 7]
    device, loss_of = choose_device(), torch.nn.functional.binary_cross_entropy_with_logits
    expected = backward(alone, images[order], labels[order], loss_of, device, Rows(8, 4))
    own = ranks.share(8)
    found = backward(ranks.parallel(together), images[own], labels[own], loss_of, device, Rows(8, 2, ranks))
    pairs = [(found, expected), *zip(together.buffers(), alone.buffers(), strict=True)]
    pairs += [(one.grad, other.grad) for one, other in zip(together.parameters(), alone.parameters(), strict=True)]
    return [float((one.float() - other.float()).abs().max()) for one, other in pairs]


def test_a_few_images_at_a_time_batch_norms_see_those_of_all_workers(both):
    for result in both[1]:
        assert max(result["errors in parts"]) < 1e-5, result["errors in parts"]


def test_a_few_images_at_a_time_all_workers_have_the_same_metrics(trained_together):
    first, second = (timeless(history["four at a time, batch norm"]) for history in trained_together[1])
    assert first == second


def test_want_of_memory_in_the_validation_of_another_worker_is_noted(both):
    said = "epoch 1: out of memory on another worker in validation; 4 images at a time from now on\n"
    assert (both[0] / "judged" / MEMORY).read_text() == said


def test_the_least_of_all_workers(both):
    assert [result["least"] for result in both[1]] == [6, 6]


def test_what_is_saved_is_what_one_worker_saves(trained_together, tmp_path):
    folder, _ = trained_together
    name = "average, Adam"
    train(tmp_path, TRIALS[name])
    ours, theirs = folder / name, tmp_path
    names = [sorted(path.name for path in one.iterdir()) for one in (ours, theirs)]
    assert names[0] == names[1]
    one, other = (safetensors.torch.load_file(weights_path(place, EPOCHS)) for place in (ours, theirs))
    assert {key: value.shape for key, value in one.items()} == {key: value.shape for key, value in other.items()}
    for key, value in one.items():
        torch.testing.assert_close(value, other[key], rtol=0.05, atol=2e-3)


def test_one_worker_resumes_where_two_stopped(trained_together, tmp_path):
    folder, histories = trained_together
    trainer = make_trainer(folder / "soft F1", TrialConfig(**TRIALS["soft F1"]), data=data_for(TrialConfig(**BATCH_NORM)))
    assert timeless(trainer.history) == timeless(histories[0]["soft F1"])


def test_resumed_they_end_as_if_they_had_not_stopped(trained_together):
    folder, histories = trained_together
    assert timeless(histories[0]["in two parts"]) == timeless(histories[0]["batch norm"])
    one, other = (safetensors.torch.load_file(weights_path(folder / name, EPOCHS)) for name in ("in two parts", "batch norm"))
    assert all(torch.equal(one[key], other[key]) for key in one)


def whole_batch_norms(ranks):
    """Return the largest differences of outputs, gradients and statistics to those of one worker, for norms of each kind."""
    found = []
    for shape, kind in (((5, 3), torch.nn.BatchNorm1d), ((5, 3, 4), torch.nn.BatchNorm1d), ((5, 3, 4, 2), torch.nn.BatchNorm2d)):
        for affine, dtype in ((True, torch.float32), (False, torch.float32), (True, torch.bfloat16)):
            torch.manual_seed(0)
            alone, shared = (kind(3, affine=affine, momentum=0.3) for _ in range(2))
            values = (100 + torch.randn(shape)).to(dtype)
            weights = torch.randn(shape)
            whole, own = values.clone().requires_grad_(), values[ranks.share(5)].clone().requires_grad_()
            expected = alone(whole)
            (expected.float() * weights).sum().backward()
            with WholeBatch():
                result = shared(own)
            (ranks.gather(result.float(), 5) * weights).sum().backward()
            assert result.dtype == expected.dtype
            pairs = [(result, expected[ranks.share(5)]), (own.grad, whole.grad[ranks.share(5)])]
            pairs += list(zip(shared.buffers(), alone.buffers(), strict=True))
            for one, other in zip(shared.parameters(), alone.parameters(), strict=True):
                dist.all_reduce(one.grad)
                pairs.append((one.grad, other.grad))
            error = max(float((one.float() - other.float()).abs().max().detach()) for one, other in pairs)
            found.append(error / (100 if dtype == torch.bfloat16 else 1))
            with WholeBatch():
                assert torch.equal(
                    shared.eval()(own), torch.nn.functional.batch_norm(own, *list(shared.buffers())[:2], *shared.parameters())
                )
    return found


def test_a_norm_over_parts_is_the_norm_of_the_batch(both):
    """With a mean a hundred times the deviation, where the mean of squares less the square of the mean would fail."""
    for result in both[1]:
        assert max(result["errors"]) < 2e-3, result["errors"]


def gathers(ranks):
    own = torch.arange(7.0)[ranks.share(7)].view(-1, 1).requires_grad_()
    everyone = ranks.gather(own, 7)
    (everyone * torch.arange(7.0).view(-1, 1)).sum().backward()
    word = ranks.tell({"leg": 3} if ranks.first else None)
    return [
        everyone.flatten().tolist(),
        own.grad.flatten().tolist(),
        ranks.share(7).start,
        ranks.gather(own[:1], 1).shape[0],
        word,
    ]


def test_rows_are_gathered_in_order_and_gradients_go_back_to_their_own(both):
    results = [result["gathered"] for result in both[1]]
    assert results[0] == [list(range(7)), [0, 1, 2, 3], 0, 1, {"leg": 3}]
    assert results[1] == [list(range(7)), [4, 5, 6], 4, 1, {"leg": 3}]


def test_the_death_of_another_differs_from_a_fault_of_ones_own(both):
    assert json.loads((both[0] / "lost.json").read_text()) == [True, True]
    assert not lost_another(RuntimeError("shapes do not match")) and not lost_another(ValueError("gloo"))
