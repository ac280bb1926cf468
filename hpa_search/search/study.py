"""The ledger: one Optuna study that holds every fact of a search, written before it is acted on.

A trial that is neither complete, pruned nor failed is RUNNING in the study; it is paused when it has a report at
its target (the epochs it may train to), and in training or interrupted when it has none.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import optuna
from filelock import FileLock
from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from hpa_search.errors import UserError

End = Literal["complete", "pruned", "failed"]
_ENDS: dict[End, TrialState] = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
JOURNAL = "study.journal"

optuna.logging.set_verbosity(optuna.logging.WARNING)


@dataclass(frozen=True)
class Facts:
    """What the ledger knows of one trial; ``reports`` maps epochs, from 1, to the objective."""

    number: int
    parameters: dict[str, Any]
    target: int
    reports: dict[int, float]
    end: End | None
    ended: str | None

    @property
    def epochs(self) -> int:
        """How many epochs have been reported."""
        return max(self.reports, default=0)


class Ledger:
    """Reads and writes the study of one search. Only the driver that holds the lease may write."""

    def __init__(self, storage: BaseStorage, study_id: int) -> None:
        self.storage, self._study_id = storage, study_id

    @classmethod
    def create(cls, out: Path, name: str) -> "Ledger":
        """Open the study in ``out``, creating it where there is none. Raises UserError for a damaged one."""
        with _named(out / JOURNAL):
            storage = _journal(out / JOURNAL)
            studies = storage.get_all_studies()
            if not studies and (out / JOURNAL).stat().st_size:
                raise ValueError("it is not empty and holds no study")
            study_id = studies[0]._study_id if studies else storage.create_new_study([StudyDirection.MAXIMIZE], name)
            ledger = cls(storage, study_id)
            ledger.trials()
        return ledger

    @classmethod
    def open(cls, out: Path) -> "Ledger":
        """Open the study in ``out`` for reading. Raises UserError where there is no search."""
        path = out / JOURNAL
        if not path.is_file():
            raise UserError(f"{out}: no search here ({JOURNAL} is missing); give the --out of a `hpa-search run`")
        with _named(path):
            storage = _journal(path)
            ledgers = [cls(storage, study._study_id) for study in storage.get_all_studies()]
            for ledger in ledgers:
                ledger.trials()
        if not ledgers:
            raise UserError(f"{path}: holds no search yet; give the --out of a `hpa-search run`")
        return ledgers[0]

    def trials(self) -> list[Facts]:
        """Return the facts of all trials, by number."""
        return [_facts(trial) for trial in self.frozen()]

    def frozen(self) -> list[FrozenTrial]:
        """Return Optuna's own records of all trials, by number."""
        return self.storage.get_all_trials(self._study_id, deepcopy=False)

    def add(self, parameters: dict[str, Any], distributions: dict[str, BaseDistribution], *, target: int) -> int:
        """Record a new trial in one write; return its number."""
        trial = create_trial(
            state=TrialState.RUNNING, params=parameters, distributions=distributions, user_attrs={"target": target}
        )
        trial_id = self.storage.create_new_trial(self._study_id, template_trial=trial)
        return self.storage.get_trial_number_from_id(trial_id)

    def report(self, number: int, epoch: int, objective: float) -> None:
        """Record a trial's objective after ``epoch`` epochs."""
        self.storage.set_trial_intermediate_value(self._id(number), epoch, objective)

    def set_target(self, number: int, target: int) -> None:
        """Record that a trial may train to ``target`` epochs: its promotion."""
        self.storage.set_trial_user_attr(self._id(number), "target", target)

    def end(self, number: int, end: End, why: str) -> None:
        """Record the end of a trial; the value of a complete one is its best report. Ending it again changes nothing."""
        trial = self.storage.get_trial(self._id(number))
        if trial.state.is_finished():
            return
        self.storage.set_trial_user_attr(self._id(number), "ended", why)
        values = [max(trial.intermediate_values.values())] if end == "complete" else None
        self.storage.set_trial_state_values(self._id(number), _ENDS[end], values)

    def note(self, key: str, value: Any) -> None:
        """Record a JSON value about the whole search."""
        self.storage.set_study_user_attr(self._study_id, key, value)

    def noted(self) -> Mapping[str, Any]:
        """Return all values recorded about the whole search."""
        return self.storage.get_study_user_attrs(self._study_id)

    def _id(self, number: int) -> int:
        return self.storage.get_trial_id_from_study_id_trial_number(self._study_id, number)


@contextmanager
def _named(journal: Path) -> Iterator[None]:
    """Turn whatever Optuna raises for a journal that is none, or damaged, into a message that names it."""
    try:
        yield
    except (ValueError, LookupError, TypeError, AssertionError, OSError) as error:
        raise UserError(f"{journal}: damaged, or no ledger of a search ({error})") from None


def cut_torn_line(journal: Path) -> int:
    """Cut a journal back to its last newline and return the bytes cut.

    A last line torn by a kill or a full disk would make the journal unreadable for ever after the next append. It is
    cut under the lock that appends take, so a line that is being written is not mistaken for a torn one.
    """
    lock = _DriverLock(journal)
    lock.acquire()
    try:
        with journal.open("r+b") as file:
            content = file.read()
            kept = content.rfind(b"\n") + 1
            if kept < len(content):
                file.truncate(kept)
                os.fsync(file.fileno())
        return len(content) - kept
    finally:
        lock.release()


def _facts(trial: FrozenTrial) -> Facts:
    ends = {state: end for end, state in _ENDS.items()}
    return Facts(
        number=trial.number,
        parameters=dict(trial.params),
        target=trial.user_attrs["target"],
        reports=dict(trial.intermediate_values),
        end=ends.get(trial.state),
        ended=trial.user_attrs.get("ended"),
    )


def _journal(path: Path) -> JournalStorage:
    return JournalStorage(JournalFileBackend(str(path), lock_obj=_DriverLock(path)))  # type: ignore[arg-type]


class _DriverLock:
    """A lock that dies with its holder; Optuna's own outlives a killed driver by 30 seconds."""

    def __init__(self, journal: Path) -> None:
        self._lock = FileLock(f"{journal}.lock")

    def acquire(self) -> bool:
        self._lock.acquire()
        return True

    def release(self) -> None:
        self._lock.release()
