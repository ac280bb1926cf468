"""The data that all trials of a search share: images, labels, and which rows train and which validate."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hpa_search.data.loader import Images
from hpa_search.labels import NUM_LABELS
from hpa_search.stains import NUM_STAINS

CROSS_FIT_FOLDS = 5
"""Folds of the validation rows. The thresholds of each fold are fitted on the others."""


@dataclass(frozen=True)
class TrialData:
    """The data that all trials of a search share, checked to fit together.

    ``images`` gives uint8 (b, 4, s, s) by row, where s is the trial's input size. ``labels`` is bool (n, 28). ``train`` and
    ``validation`` are distinct row numbers. ``mean`` and ``std`` (4,) are those of the training images in 0..1 units.
    ``groups`` (n,) names each row's group, None if each row is its own. Raises ValueError if these do not fit together.
    """

    images: Images
    labels: NDArray[np.bool_]
    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    groups: NDArray[np.str_] | None = None

    def __post_init__(self) -> None:
        if self.labels.ndim != 2 or self.labels.shape[1] != NUM_LABELS or self.labels.dtype != np.bool_:
            raise ValueError(f"labels must be bool (n, {NUM_LABELS}), got {self.labels.dtype} {self.labels.shape}")
        if len(self.train) < 2 or len(self.validation) < CROSS_FIT_FOLDS:
            counts = f"{len(self.train)} training and {len(self.validation)} validation rows"
            raise ValueError(f"{counts}; at least 2 and {CROSS_FIT_FOLDS} are needed")
        if np.intersect1d(self.train, self.validation).size:
            raise ValueError("training and validation share rows")
        if self.groups is not None and self.groups.shape != self.labels.shape[:1]:
            raise ValueError(f"groups must be one a row, ({len(self.labels)},), got {self.groups.shape}")

    @property
    def train_labels(self) -> NDArray[np.bool_]:
        """The labels of the training rows (m, 28)."""
        return self.labels[self.train]

    @property
    def validation_labels(self) -> NDArray[np.bool_]:
        """The labels of the validation rows (m, 28)."""
        return self.labels[self.validation]

    def folding(self) -> tuple[int, NDArray[np.str_] | None]:
        """Return the number of folds of the validation rows, and their groups, which folds keep whole.

        Fewer groups than CROSS_FIT_FOLDS give fewer folds. A single group is split after all, because thresholds must be fitted on some
        of its rows. This flatters its macro F1.
        """
        if self.groups is None:
            return CROSS_FIT_FOLDS, None
        groups = self.groups[self.validation]
        folds = min(CROSS_FIT_FOLDS, len(np.unique(groups)))
        return (folds, groups) if folds > 1 else (CROSS_FIT_FOLDS, None)

    def check_images(self, size: int) -> None:
        """Raise ValueError unless the images are uint8 of shape (4, ``size``, ``size``)."""
        image = self.images.gather(self.train[:1])
        if image.shape != (1, NUM_STAINS, size, size) or image.dtype != np.uint8:
            raise ValueError(
                f"the trial needs uint8 images of shape ({NUM_STAINS}, {size}, {size}), got {image.dtype} {image.shape[1:]}"
            )
