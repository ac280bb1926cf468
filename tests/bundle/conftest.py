"""A bundle of two untrained networks, and folders of images for it."""

import os
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from hpa_search.bundle.export import Candidate, write_bundle
from hpa_search.config import TrialConfig
from hpa_search.data.kaggle import image_file, image_ids
from hpa_search.models.build import build_network
from hpa_search.scoring.calibration import Platt
from hpa_search.scoring.thresholds import DecisionRule
from hpa_search.stains import COLOURS

MAPS = tuple(Platt(np.full(28, slope), np.linspace(-0.5, 0.5, 28)) for slope in (0.5, 2.0))
MEAN, STD = (0.1, 0.2, 0.3, 0.4), (0.2, 0.2, 0.2, 0.2)
CONFIGS = (
    TrialConfig(backbone="test_resnet", small_size=32, full_size=64, batch_size=4, channels="rgby"),
    TrialConfig(backbone="test_resnet", resolution="gap", small_size=32, full_size=48, batch_size=3, channels="g"),
)


@pytest.fixture(scope="session")
def candidates(tmp_path_factory) -> list[Candidate]:
    folder = tmp_path_factory.mktemp("trials")
    made = []
    for number, config in enumerate(CONFIGS):
        torch.manual_seed(number)
        network = build_network(config, MEAN, STD)
        torch.nn.init.normal_(network.head.classifier.weight, std=0.5)
        safetensors.torch.save_file(network.state_dict(), folder / f"{number}.safetensors")
        made.append(Candidate("tiny", number, number + 3, config, folder / f"{number}.safetensors"))
    return made


@pytest.fixture
def rule() -> DecisionRule:
    return DecisionRule(Platt(np.ones(28), np.zeros(28)), np.linspace(0.5, 0.99, 28))


@pytest.fixture
def export(candidates, rule, tmp_path):
    """Write a bundle of the members with these weights, mapped by MAPS, in a fresh folder and return it and the manifest."""

    def write(shares=(0.75, 0.25), name="tiny", folder="bundle") -> tuple[Path, object]:
        members = [(one, share, platt) for one, share, platt in zip(candidates, shares, MAPS, strict=False) if share]
        provenance = {"version": "0", "images": 5}
        bundle = tmp_path / folder
        return bundle, write_bundle(bundle, name, members, rule, mean=MEAN, std=STD, provenance=provenance)

    return write


@pytest.fixture
def write_images():
    def write(folder: Path, ids, size=48, seed=0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(seed)
        for identifier in ids:
            for colour in ("red", "green", "blue", "yellow"):
                plane = rng.integers(0, 256, (size, size), dtype=np.uint8)
                Image.fromarray(plane).save(folder / f"{identifier}_{colour}.png")

    return write


@pytest.fixture(scope="session")
def real_fields() -> np.ndarray:
    """Real fields, uint8 (4, 4, 512, 512), found through HPA_TEST_DATA."""
    folder = Path(os.environ.get("HPA_TEST_DATA", "nowhere")) / "hpa-fields-512" / "train"
    if not folder.is_dir():
        pytest.skip("HPA_TEST_DATA names no folder with hpa-fields-512")
    channels = [[Image.open(folder / image_file(one, colour)) for colour in COLOURS] for one in image_ids(folder)[:4]]
    return np.array([[np.asarray(channel) for channel in image] for image in channels])
