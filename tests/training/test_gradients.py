import copy

import pytest
import torch

from hpa_search.config import TrialConfig
from hpa_search.models.build import build_network
from hpa_search.models.freezing import apply_freeze
from hpa_search.training.class_weights import class_weights
from hpa_search.training.device import Device, choose_device
from hpa_search.training.gradients import Rows, backward, predict
from hpa_search.training.losses import LOSSES, build_loss
from hpa_search.training.memory import MicroBatch
from hpa_search.training.ranks import Ranks
from tests.training.trial import make_data

BATCH = 13
WITHOUT_BATCH_NORM = "test_convnext"
HALF = Device(torch.device("cpu"), torch.bfloat16, False, "a test of mixed precision")


def config_of(**settings):
    return TrialConfig(**{"backbone": WITHOUT_BATCH_NORM, "small_size": 32, "channels": "rgby", **settings})


def everything(seed=0, **settings):
    """Return a network in training, a batch, and its loss."""
    config, data = config_of(**settings), make_data()
    torch.manual_seed(seed)
    network = build_network(config, data.mean.tolist(), data.std.tolist())
    apply_freeze(network, config.freeze)
    rows = data.train[:BATCH]
    loss = build_loss(config, class_weights(config, data.train_labels, None))
    return network, torch.from_numpy(data.images.gather(rows)), torch.from_numpy(data.labels[rows]).float(), loss


def gradients(network):
    return {name: weight.grad for name, weight in network.named_parameters() if weight.grad is not None}


def both(size, device=None, **settings):
    """Return loss and gradients of a batch at once, and of the same in parts."""
    results = []
    for portion in (BATCH, size):
        network, images, labels, loss_of = everything(**settings)
        loss = backward(network, images, labels, loss_of, device or choose_device(), Rows(BATCH, portion))
        results.append((loss, gradients(network)))
    return results


@pytest.mark.parametrize("size", [1, 2, 5, 12])
@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_in_parts_loss_and_gradients_are_those_of_the_batch(loss, size):
    (whole_loss, whole), (loss_in_parts, in_parts) = both(size, loss=loss)
    torch.testing.assert_close(loss_in_parts, whole_loss, rtol=1e-6, atol=1e-7)
    assert whole.keys() == in_parts.keys()
    largest = max(float(gradient.abs().max()) for gradient in whole.values())
    for name, gradient in whole.items():
        torch.testing.assert_close(in_parts[name], gradient, rtol=1e-4, atol=1e-6 * largest)


def test_the_loss_of_the_batch_is_not_the_mean_over_parts():
    """This error is why there are two passes."""
    (_, whole), _ = both(5, loss="soft_f1")
    network, images, labels, loss_of = everything(loss="soft_f1")
    for part, of_part in zip(images.tensor_split(3), labels.tensor_split(3), strict=True):
        (loss_of(network(part), of_part) * len(part) / BATCH).backward()
    name = "head.classifier.weight"
    assert (gradients(network)[name] - whole[name]).abs().max() > 0.05 * whole[name].abs().max()


def test_only_what_is_trained_gets_gradients():
    (_, whole), (_, in_parts) = both(4, freeze="head")
    assert whole.keys() == in_parts.keys()
    assert all(name.startswith("head.") for name in in_parts)


def test_crops_and_mixed_precision():
    settings = {"resolution": "crop", "full_size": 32, "crop_size": 32, "small_size": 224}
    (whole_loss, whole), (loss_in_parts, in_parts) = both(4, HALF, **settings)
    torch.testing.assert_close(loss_in_parts, whole_loss, rtol=2e-2, atol=1e-3)
    name = "head.classifier.weight"
    assert in_parts[name].dtype == torch.float32
    torch.testing.assert_close(in_parts[name], whole[name], rtol=0.1, atol=0.05 * float(whole[name].abs().max()))


def test_both_passes_drop_the_same():
    """The gradient of a part must belong to the logits that the loss saw: with one part dropped in two ways it would not."""
    network, images, labels, loss_of = everything(dropout=0.5, loss="soft_f1")
    seen = []
    network.register_forward_hook(lambda module, inputs, logits: seen.append(logits.detach()))
    backward(network, images, labels, loss_of, choose_device(), Rows(BATCH, 5))
    first, second = seen[:3], seen[3:]
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))
    assert not torch.equal(first[0], network(images.tensor_split(3)[0]))


def test_each_part_counts_once_into_running_statistics():
    network, images, labels, loss_of = everything(backbone="test_resnet")
    expected = copy.deepcopy(network)
    backward(network, images, labels, loss_of, choose_device(), Rows(BATCH, 5))
    for part in images.tensor_split(3):
        expected(part)
    for (name, buffer), wanted in zip(network.named_buffers(), expected.buffers(), strict=True):
        assert torch.equal(buffer, wanted), name


@pytest.mark.parametrize(
    ("images", "size", "lengths"),
    [(16, 8, [8, 8]), (17, 8, [6, 6, 5]), (3, 2, [3]), (5, 2, [3, 2]), (9, 8, [5, 4]), (2, 1, [1, 1]), (3, 1, [1, 1, 1])],
)
def test_parts_are_alike_and_none_is_alone(images, size, lengths):
    assert [len(part) for part in torch.zeros(images).tensor_split(Rows(images, size).parts)] == lengths


@pytest.mark.parametrize("world", [2, 3, 5])
@pytest.mark.parametrize("batch", range(1, 24))
@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_all_workers_have_as_many_parts_and_none_is_empty(world, batch, size):
    workers = [Ranks(rank, world, object()) for rank in range(world)]
    count = Rows(batch, size, workers[0]).parts
    for ranks in workers:
        own = torch.zeros(batch)[ranks.share(batch)]
        lengths = [len(part) for part in own.tensor_split(count)]
        assert min(lengths) >= 1
        # Shares may differ by one image; and where each worker has all, a batch norm needs two.
        assert max(lengths) <= (max(size, 2) if ranks.parted(batch) else max(size, 3))


def test_a_batch_norm_that_needs_two_images_is_out_of_memory_at_one():
    network, images, labels, loss_of = everything(backbone="test_resnet", head="avg_max")
    backward(network, images, labels, loss_of, choose_device(), Rows(BATCH, 2))
    with pytest.raises(MemoryError, match="batch norm cannot work on 1"):
        backward(network, images, labels, loss_of, choose_device(), Rows(BATCH, 1))


def test_prediction_in_parts_is_the_same():
    network, images, _, _ = everything()
    network.eval()

    def no_room(module, inputs):
        if len(inputs[0]) > 4:
            raise torch.OutOfMemoryError("full")

    expected = network(images).detach()
    network.register_forward_pre_hook(no_room)
    portion = MicroBatch(BATCH, lambda before, after: None)
    logits = predict(network, images, choose_device(), portion)
    assert portion.size == 3 and not logits.requires_grad
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)
