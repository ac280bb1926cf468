"""The small trial of the tests: noise in which four classes can be learned, and a network that learns them in four epochs."""

from pathlib import Path

import numpy as np
import safetensors.torch
import torch

from hpa_search.config import TrialConfig
from hpa_search.data.statistics import channel_statistics
from hpa_search.training.checkpoint import read_logits, weights_path
from hpa_search.training.score import Scorer
from hpa_search.training.trainer import Trainer
from hpa_search.training.trial_data import TrialData

CONFIG = TrialConfig(
    backbone="test_resnet", small_size=32, full_size=64, batch_size=16, channels="rgby", dropout=0.2, learning_rate=3e-3
)
EPOCHS = 4
SIZE = 32
CLASSES = np.arange(28) < 4
TIMES = ("seconds", "data_seconds", "evaluate_seconds", "checkpoint_seconds", "images_per_second")


class ArrayImages:
    def __init__(self, array):
        self.array = array

    def gather(self, rows):
        return self.array[rows]


def make_data(rows=81, size=SIZE) -> TrialData:
    """Noise in which class k of 4 brightens channel k; 49 training rows, so that the last batch of 16 has one row."""
    generator = np.random.default_rng(0)
    labels = np.zeros((rows, 28), dtype=bool)
    labels[:, :4] = generator.random((rows, 4)) < 0.4
    array = generator.integers(0, 120, (rows, 4, size, size)) + 100 * labels[:, :4, None, None]
    images = ArrayImages(array.astype(np.uint8))
    train, validation = np.arange(rows - 32), np.arange(rows - 32, rows)
    mean, std = channel_statistics(images, train)
    return TrialData(images, labels, train, validation, mean, std)


def make_trainer(folder, config=CONFIG, **settings) -> Trainer:
    chosen = {"data": make_data(), "epochs": EPOCHS, "seed": 7, "judge": Scorer(CLASSES), **settings}
    return Trainer(config, chosen.pop("data"), folder=Path(folder), **chosen)


def finish(trainer):
    while trainer.epoch < EPOCHS:
        trainer.run_epoch()
    return trainer


def timeless(history):
    return [{name: value for name, value in row.items() if name not in TIMES} for row in history]


def same_results(one: Path, other: Path) -> bool:
    """Say whether the folders of two trials hold the same bits."""
    if sorted(path.name for path in one.rglob("*")) != sorted(path.name for path in other.rglob("*")):
        return False
    first, second = (safetensors.torch.load_file(weights_path(folder, EPOCHS)) for folder in (one, other))
    logits = read_logits(one), read_logits(other)
    return all(torch.equal(first[name], second[name]) for name in first) and all(
        np.array_equal(logits[0][epoch], logits[1][epoch]) for epoch in range(1, EPOCHS + 1)
    )
