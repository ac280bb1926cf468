"""Is the phantom hard enough to be honest, and easy enough to be learnt? Measured on lifted phantoms.

python tests/benchmarks/phantom_difficulty.py [--images 2000] [--size 128] [--lift 0.03] [--epochs 9] [--model test_resnet]

Half of the training images train, half score. Prints each number beside its target and exits with 1 if one is missed:
- a logistic regression on the channels' means and deviations finds next to nothing (macro AP <= 2 x mean prevalence);
- a small net gains from training on (epoch 3 to 9, one run) and from resolution (32 to 96 px);
- its thresholded macro F1 is at least twice that of predicting every label everywhere.
"""

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import timm
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch.nn.functional import binary_cross_entropy_with_logits, interpolate

from hpa_search.data.augment import augment
from hpa_search.labels import parse_target, to_vector
from hpa_search.phantom.dataset import make_phantom
from hpa_search.scoring.metrics import all_positive_floor, average_precision, f1_of_counts, macro_f1
from hpa_search.stains import COLOURS

EARLY, SMALL, LARGE = 3, 32, 96


@dataclass(frozen=True)
class Half:
    """Images (n, 4, s, s) uint8 and labels (n, 28) of one half."""

    images: torch.Tensor
    labels: NDArray[np.bool_]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--lift", type=float, default=0.03, help="least share of images of each class")
    parser.add_argument("--epochs", type=int, default=9)
    parser.add_argument("--model", default="test_resnet")
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        root = Path(folder) / "phantom"
        make_phantom(root, images=options.images, size=options.size, seed=options.seed, lift=options.lift, test_images=1)
        print(f"{options.images} images of {options.size} px made in {time.monotonic() - started:.0f} s", flush=True)
        halves = _read(root)
    return _judge(halves, options)


def _judge(halves: tuple[Half, Half], options: argparse.Namespace) -> int:
    classes = halves[0].labels.any(axis=0) & halves[1].labels.any(axis=0)
    prevalence = float(halves[1].labels[:, classes].mean())
    linear = float(np.nanmean(_linear(halves)[classes]))
    small = _train(halves, SMALL, options, classes)
    large = _train(halves, LARGE, options, classes)
    rows = [
        ("linear model on means and deviations / prevalence", linear / prevalence, "at most", 2.0),
        (f"macro AP gained from epoch {EARLY} to {options.epochs} at {LARGE} px", large.late - large.early, "at least", 0.05),
        (f"macro AP gained from {SMALL} to {LARGE} px", large.late - small.late, "at least", 0.05),
        (
            "macro F1 at thresholds of the other half / all-positive floor",
            large.f1 / all_positive_floor(halves[1].labels),
            "at least",
            2.0,
        ),
    ]
    print(f"{classes.sum()} classes, mean prevalence {prevalence:.3f}, linear model {linear:.3f}")
    print(f"macro AP {SMALL} px {small.early:.3f} -> {small.late:.3f}, {LARGE} px {large.early:.3f} -> {large.late:.3f}")
    print("AP by class at the end:", " ".join(f"{k}:{v:.2f}" for k, v in enumerate(large.per_class)))
    met = [value <= bound if sense == "at most" else value >= bound for _, value, sense, bound in rows]
    for (name, value, sense, bound), ok in zip(rows, met, strict=True):
        print(f"{'ok  ' if ok else 'MISS'} {name:64} {value:6.3f}   {sense} {bound}")
    return 0 if all(met) else 1


def _read(root: Path) -> tuple[Half, Half]:
    table = pd.read_csv(root / "train.csv")
    images = np.stack(
        [[np.asarray(Image.open(root / "train" / f"{name}_{colour}.png")) for colour in COLOURS] for name in table["Id"]]
    )
    labels = np.stack([to_vector(parse_target(target)) for target in table["Target"]])
    middle = len(table) // 2
    return Half(torch.from_numpy(images[:middle]), labels[:middle]), Half(torch.from_numpy(images[middle:]), labels[middle:])


def _linear(halves: tuple[Half, Half]) -> NDArray[np.float64]:
    """Return the AP of each class of the linear model; classes without positives in a half are NaN."""
    features = [np.concatenate([h.images.float().mean((2, 3)), h.images.float().std((2, 3))], axis=1) for h in halves]
    model = make_pipeline(StandardScaler(), OneVsRestClassifier(LogisticRegression(max_iter=1000)))
    known = halves[0].labels.any(axis=0)
    model.fit(features[0], halves[0].labels[:, known])
    result = np.full(len(known), np.nan)
    result[known] = average_precision(model.predict_proba(features[1]), halves[1].labels[:, known])
    return result


@dataclass(frozen=True)
class Run:
    """Macro AP at the early epoch and at the end, AP by class and macro F1 at the end."""

    early: float
    late: float
    per_class: NDArray[np.float64]
    f1: float


def _train(halves: tuple[Half, Half], size: int, options: argparse.Namespace, classes: NDArray[np.bool_]) -> Run:
    torch.manual_seed(options.seed)
    generator = torch.Generator().manual_seed(options.seed)
    inputs = [interpolate(h.images.float(), size=(size, size), mode="area").round().byte() for h in halves]
    targets = torch.from_numpy(halves[0].labels).float()
    model = timm.create_model(options.model, in_chans=4, num_classes=targets.shape[1])
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.epochs * (len(targets) // 32))
    early, scores, started = 0.0, np.empty(0), time.monotonic()
    for epoch in range(1, options.epochs + 1):
        model.train()
        for rows in torch.randperm(len(targets), generator=generator)[: len(targets) // 32 * 32].split(32):
            logits = model(_scale(augment(inputs[0][rows], "dihedral", generator)))
            optimizer.zero_grad()
            binary_cross_entropy_with_logits(logits, targets[rows]).backward()
            optimizer.step()
            schedule.step()
        scores = _predict(model, inputs[1])
        macro = float(average_precision(scores, halves[1].labels)[classes].mean())
        print(f"  {size} px, epoch {epoch}: macro AP {macro:.3f} ({time.monotonic() - started:.0f} s)", flush=True)
        early = macro if epoch == EARLY else early
    return Run(early, macro, average_precision(scores, halves[1].labels), _crossed_f1(scores, halves[1].labels))


def _scale(images: torch.Tensor) -> torch.Tensor:
    return images.float() / 64 - 0.5


@torch.no_grad()
def _predict(model: torch.nn.Module, images: torch.Tensor) -> NDArray[np.float64]:
    model.eval()
    return torch.cat([model(_scale(part)) for part in images.split(64)]).double().numpy()


def _crossed_f1(scores: NDArray[np.float64], labels: NDArray[np.bool_]) -> float:
    """Return macro F1 of predictions whose thresholds were fitted on the other of two interleaved halves."""
    predicted = np.zeros_like(labels)
    for part in (0, 1):
        fit, use = slice(1 - part, None, 2), slice(part, None, 2)
        for label in range(labels.shape[1]):
            order = np.sort(scores[fit, label])[::-1]
            hits = labels[fit, label][np.argsort(-scores[fit, label], kind="stable")].cumsum()
            f1 = f1_of_counts(hits, np.arange(1, len(order) + 1) + labels[fit, label].sum())
            predicted[use, label] = scores[use, label] >= order[int(np.argmax(f1))]
    return macro_f1(predicted, labels)


if __name__ == "__main__":
    sys.exit(main())
