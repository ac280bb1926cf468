"""The peers of `whole_search.py`: whole_search_peers.py recipe|optuna DATA SPLIT TOLD EPOCHS.

Each appends to the file TOLD when an epoch was done, and with what objective. Their training is one function, as their
documentation has it: a timm network, a DataLoader of the PNG files, AdamW, a checkpoint after each epoch.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import timm
import torch
from input_pipeline import PngDataset
from torch.utils.data import DataLoader, Dataset

from hpa_search.data.kaggle import read_dataset
from hpa_search.scoring.metrics import macro_average_precision

SIZE, BATCH, RUNGS = 64, 16, (1, 3, 9)


class Labelled(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Images 4 x 64 x 64 in 0..1 with their labels; each is flipped and turned by itself in training."""

    def __init__(self, images: PngDataset, labels: np.ndarray, training: bool) -> None:
        self._images, self._labels, self._training = images, labels, training

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, torch.Tensor]:
        image = self._images[row].float() / 255
        if self._training:
            draws = np.random.randint(0, 2, 3)
            image = image.flip([dim for dim, drawn in ((-1, draws[0]), (-2, draws[1])) if drawn])
            image = image.transpose(-1, -2) if draws[2] else image
        return image.contiguous(), torch.from_numpy(self._labels[row]).float()


def loaders(data: str, split: str) -> tuple[DataLoader[Any], DataLoader[Any], np.ndarray]:
    """Return the loaders of the training and validation rows, and the classes that the objective averages."""
    dataset, parts = read_dataset(Path(data)), pd.read_csv(split).set_index("Id")
    part = parts.loc[list(dataset.ids)].iloc[:, 0].to_numpy()
    found = []
    for name in ("train", "validation"):
        rows = np.flatnonzero(part == name)
        images = PngDataset(dataset.train_folder, [dataset.ids[row] for row in rows], SIZE)
        training = name == "train"
        labelled = Labelled(images, dataset.labels[rows], training)
        found.append(DataLoader(labelled, BATCH, shuffle=training, num_workers=1, persistent_workers=True))
    classes = json.loads(Path(split).with_name("provenance.json").read_text())["classes"]
    return found[0], found[1], np.isin(np.arange(28), classes)


def trained(config: dict[str, float], data: str, split: str) -> Iterator[tuple[int, float, dict[str, Any]]]:
    """Train; yield each epoch with its objective and what a checkpoint holds."""
    train, validation, classes = loaders(data, split)
    network = timm.create_model("resnet18", in_chans=4, num_classes=28, drop_rate=config["dropout"])
    optimizer = torch.optim.AdamW(network.parameters(), lr=config["learning_rate"], weight_decay=0.01)
    loss_of = torch.nn.BCEWithLogitsLoss()
    for epoch in range(1, RUNGS[-1] + 1):
        network.train()
        for images, labels in train:
            optimizer.zero_grad()
            loss_of(network(images), labels).backward()
            optimizer.step()
        network.eval()
        with torch.no_grad():
            found = [(network(images), labels) for images, labels in validation]
        logits, truth = (torch.cat(part).numpy() for part in zip(*found, strict=True))
        yield (
            epoch,
            macro_average_precision(logits, truth > 0, classes=classes),
            {"network": network.state_dict(), "optimizer": optimizer.state_dict()},
        )


def telling(told: str) -> Callable[[float], int]:
    """Return what appends an epoch and returns how many there are."""

    def tell(objective: float) -> int:
        with Path(told).open("a") as file:
            file.write(json.dumps({"time": time.time(), "objective": objective}) + "\n")
        return len(Path(told).read_text().splitlines())

    return tell


def recipe(data: str, split: str, told: str, epochs: int) -> None:
    """Run Ray's documented way; it ends after so many epochs of all trials."""
    import ray
    from ray import train, tune
    from ray.train.torch import TorchTrainer
    from ray.tune.integration.ray_train import TuneReportCallback
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.optuna import OptunaSearch

    storage = tempfile.mkdtemp()

    def train_on_worker(config: dict[str, Any]) -> None:
        tell = telling(told)
        for epoch, objective, state in trained(config, data, split):
            with tempfile.TemporaryDirectory() as folder:
                torch.save(state, Path(folder) / "checkpoint.pt")
                tell(objective)
                train.report({"objective": objective, "epoch": epoch}, checkpoint=train.Checkpoint.from_directory(folder))

    def drive(config: dict[str, Any]) -> None:
        TorchTrainer(
            train_on_worker,
            train_loop_config=config,
            scaling_config=train.ScalingConfig(num_workers=1, resources_per_worker={"CPU": 0.9}),
            run_config=train.RunConfig(
                name=tune.get_context().get_trial_id(), storage_path=storage, callbacks=[TuneReportCallback()]
            ),
        ).fit()

    class AllEpochs(tune.Stopper):
        def __init__(self) -> None:
            self._done = 0

        def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
            self._done += 1
            return self._done >= epochs

        def stop_all(self) -> bool:
            return self._done >= epochs

    ray.init(address="local", log_to_driver=False, num_cpus=2)
    tune.Tuner(
        tune.with_resources(drive, {"cpu": 0.1}),
        param_space={"learning_rate": tune.loguniform(1e-4, 1e-2), "dropout": tune.uniform(0, 0.5)},
        tune_config=tune.TuneConfig(
            metric="objective",
            mode="max",
            num_samples=epochs,
            max_concurrent_trials=2,
            search_alg=OptunaSearch(seed=1),
            scheduler=ASHAScheduler(time_attr="epoch", max_t=RUNGS[-1], grace_period=1, reduction_factor=3),
        ),
        run_config=tune.RunConfig(storage_path=storage, verbose=0, stop=AllEpochs()),
    ).fit()
    ray.shutdown()


def plain_optuna(data: str, split: str, told: str, epochs: int) -> None:
    """Run Optuna's way in this process."""
    import optuna

    tell, folder = telling(told), Path(tempfile.mkdtemp())

    def objective(trial: optuna.Trial) -> float:
        config = {
            "learning_rate": trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True),
            "dropout": trial.suggest_float("dropout", 0, 0.5),
        }
        best = 0.0
        for epoch, found, state in trained(config, data, split):
            torch.save(state, folder / f"{trial.number}.pt")
            best = max(best, found)
            trial.report(found, epoch)
            if tell(found) >= epochs:
                trial.study.stop()
                return best
            if trial.should_prune():
                raise optuna.TrialPruned
        return best

    pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3)
    optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=1), pruner=pruner).optimize(objective)


if __name__ == "__main__":
    torch.set_num_threads(1)
    way, *places, number = sys.argv[1:]
    {"recipe": recipe, "optuna": plain_optuna}[way](*places, int(number))
