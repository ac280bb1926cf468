"""The weights and checkpoints of a search's trials, in a folder or an object store."""

import re
from collections import defaultdict

from hpa_search.search.shelf import Kept
from hpa_search.storage.opened import WorkingCopy
from hpa_search.training.checkpoint import CHECKPOINT
from hpa_search.training.job import trial_name

_FILE = re.compile(r"trials/(\d+)/(checkpoint\.pt|weights/epoch-\d+\.safetensors)")


class WorkTrialFiles:
    """The files of the trials of the search in ``work``. Only the driver may remove some."""

    def __init__(self, work: WorkingCopy) -> None:
        self._work = work

    def kept(self) -> dict[int, Kept]:
        """Return what each trial has; one that has nothing is missing."""
        found: dict[int, dict[str, int]] = defaultdict(dict)
        for name, size in self._work.sizes("trials").items():
            if match := _FILE.fullmatch(name):
                found[int(match[1])][match[2]] = size
        return {number: Kept(sum(files.values()), CHECKPOINT in files) for number, files in found.items()}

    def in_words(self) -> str:
        """Return how many trials have weights or a checkpoint, and their bytes."""
        there = self.kept()
        return f"weights and checkpoints of {len(there)} trials, {sum(one.bytes for one in there.values()) / 1e9:.2f} GB"

    def size(self, number: int) -> int:
        """Return the bytes of a trial's weights and checkpoint."""
        return sum(size for name, size in self._work.sizes(trial_name(number)).items() if _FILE.fullmatch(name))

    def remove_checkpoint(self, number: int) -> None:
        """Remove a trial's checkpoint."""
        self._work.remove(f"{trial_name(number)}/{CHECKPOINT}")

    def remove_weights(self, number: int) -> None:
        """Remove a trial's checkpoint, then its weights: what a kill leaves of a trial never looks whole."""
        self.remove_checkpoint(number)
        for name in self._work.sizes(f"{trial_name(number)}/weights"):
            if _FILE.fullmatch(name):
                self._work.remove(name)
