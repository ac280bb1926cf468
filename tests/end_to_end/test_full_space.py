"""Whatever `search_spaces/full.yaml` can draw is built, trained for a step, scored, saved and taken up again."""

import random
import shutil
from pathlib import Path

import numpy as np
import pytest

from hpa_search.config import TrialConfig
from hpa_search.space.parsing import parse_checked
from hpa_search.training.checkpoint import read_logits
from hpa_search.training.score import Scorer
from hpa_search.training.trainer import Trainer
from hpa_search.training.trial_data import TrialData

pytestmark = pytest.mark.long
FULL = Path(__file__).parents[2] / "search_spaces" / "full.yaml"
DRAWS, BLOCK = 500, 20
SMALLEST = {"capsnet": 32}
TINY = 96
"""Pixels that every backbone but capsnet takes: gapnet_pl needs 76, inception_resnet_v2 75."""


class Noise:
    """Images of noise at any size."""

    def __init__(self, size):
        self.pixels = np.random.default_rng(0).integers(0, 256, (12, 4, size, size), dtype=np.uint8)

    def gather(self, rows):
        return self.pixels[rows]


def tiny(config: TrialConfig) -> TrialConfig:
    """Return ``config`` on small images and in batches of four, so that an epoch is one step."""
    size = SMALLEST.get(config.backbone, TINY)
    crop = {"crop_size": size - 16} if config.crop_size else {}
    return TrialConfig.model_validate({**config.model_dump(), "small_size": size, "full_size": size, **crop, "batch_size": 4})


def data(size: int) -> TrialData:
    labels = np.random.default_rng(1).random((12, 28)) < 0.4
    labels[4:] |= np.eye(8, 28, dtype=bool)
    return TrialData(Noise(size), labels, np.arange(4), np.arange(4, 12), np.full(4, 0.5), np.full(4, 0.3))


@pytest.mark.parametrize(
    "block", [0, *(pytest.param(number, marks=pytest.mark.slow) for number in range(1, DRAWS // BLOCK))]
)  # fmt: skip
def test_every_configuration_trains_scores_and_survives_save_and_load(block, tmp_path):
    search = parse_checked(FULL.read_text(encoding="utf-8"), FULL.name)
    for number in range(block * BLOCK, (block + 1) * BLOCK):
        config = tiny(search.trial_config(search.draw(random.Random(number))))
        settings = {
            "epochs": 1 + config.last_epochs,
            "seed": number,
            "folder": tmp_path / str(number),
            "judge": Scorer(np.arange(28) < 8),
        }
        trainer = Trainer(config, data(config.input_size), **settings)
        rows = tuple(trainer.run_epoch() for _ in range(1 + config.last_epochs))
        assert all(row.pop("checkpoint_seconds") > 0 for row in rows)  # known only when the row is saved
        kept = {name: value.cpu() for name, value in trainer.network.state_dict().items()}
        trainer.close()
        for row in rows:
            assert np.isfinite([row["train_loss"], row["validation_loss"], row["macro_ap"]]).all(), config
        again = Trainer(config, data(config.input_size), **settings)
        assert again.history == rows, config
        assert all(value.equal(kept[name]) for name, value in again.network.state_dict().items()), config
        assert read_logits(tmp_path / str(number))[1].shape == (8, 28)
        again.close()
        shutil.rmtree(tmp_path / str(number))  # five hundred of them would fill a disk
