"""The parts of the graph as PyTorch modules, against the numpy that they stand for; the whole is tested in test_onnx."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hpa_search.bundle.graph import BatchedNetwork, Decided
from hpa_search.config import TrialConfig
from hpa_search.models.build import build_network
from hpa_search.models.symmetries import Symmetric
from hpa_search.scoring.calibration import Platt
from hpa_search.scoring.records import Calibration, Rule
from hpa_search.scoring.thresholds import DecisionRule


def flat(slope, offset):
    return Platt(np.full(28, slope), np.full(28, offset))


def with_rule(manifest, thresholds=0.5, fill=True, slope=1.0, offset=0.0, labels=None):
    rule = Rule.of(DecisionRule(flat(slope, offset), np.full(28, thresholds), fill))
    members = tuple(
        member.model_copy(update={"labels": only}) for member, only in zip(manifest.members, labels or (None, None), strict=True)
    )
    return manifest.model_copy(update={"rule": rule, "members": members})


def in_numpy(manifest, logits):
    ensemble = manifest.ensemble
    probabilities = ensemble.rule.probabilities(ensemble.logits(logits))
    return probabilities, ensemble.rule.decide(probabilities).labels


@pytest.mark.parametrize("fill", [True, False])
@pytest.mark.parametrize("labels", [None, (None, (1, 5)), ((0, 1), (1, 2))])
@pytest.mark.parametrize("spread", [1.0, 8.0, 200.0])
def test_the_decision_is_that_of_the_bundle(export, fill, labels, spread):
    manifest = with_rule(export()[1], thresholds=0.7, fill=fill, slope=0.6, offset=0.3, labels=labels)
    logits = (np.random.default_rng(0).standard_normal((2, 200, 28)) * spread - spread).astype(np.float32)
    expected, expected_labels = in_numpy(manifest, logits)
    probabilities, decided = Decided(manifest)(torch.from_numpy(logits))
    np.testing.assert_allclose(probabilities, expected, rtol=1e-5, atol=1e-9)
    np.testing.assert_array_equal(decided, expected_labels)
    assert decided.any(dim=1).all() or not fill


def test_a_probability_on_its_threshold_has_the_label_and_one_row_below_is_filled(export):
    plain = with_rule(export()[1], thresholds=0.5)
    same = Calibration.of(flat(1.0, 0.0))
    manifest = plain.model_copy(update={"members": tuple(member.model_copy(update={"map": same}) for member in plain.members)})
    logits = torch.full((2, 2, 28), -1.0)
    logits[:, 0, 3] = 0.0
    logits[:, 1, 7] = -0.5
    _, labels = Decided(manifest)(logits)
    assert torch.nonzero(labels).tolist() == [[0, 3], [1, 7]]


@settings(max_examples=12)
@given(crop=st.sampled_from([32, 40, 48]), how=st.sampled_from(["none", "mean", "max"]), images=st.integers(1, 3))
def test_crops_and_views_as_one_batch_are_what_they_are_one_after_another(crop, how, images):
    torch.manual_seed(0)
    config = TrialConfig(backbone="test_resnet", resolution="crop", full_size=48, crop_size=crop)
    network = build_network(config, (0.5,) * 4, (0.2,) * 4).eval()
    torch.nn.init.normal_(network.head.classifier.weight, std=0.5)
    batch = torch.randint(0, 256, (images, 4, 48, 48), dtype=torch.uint8)
    with torch.inference_mode():
        expected = (network if how == "none" else Symmetric(network, how))(batch)
        torch.testing.assert_close(BatchedNetwork(network, how)(batch), expected, rtol=0, atol=1e-5)
