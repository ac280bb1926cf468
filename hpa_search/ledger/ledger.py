"""The ledger: one Optuna study that holds every fact of a search, written before it is acted on.

A trial that is neither complete, pruned nor failed is RUNNING in the study; it is paused when it has a report at
its target (the epochs it may train to), and in training or interrupted when it has none. So is one that a finished search
has set aside, for Optuna lets no trial go on that has ended, and with more budget it may; everywhere else it counts as pruned.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import DuplicatedStudyError, StorageInternalError
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy.exc import SQLAlchemyError

from hpa_search.errors import UserError
from hpa_search.layout import STUDY
from hpa_search.ledger.database import explained, is_away, open_database
from hpa_search.ledger.journal import JOURNAL, open_journal
from hpa_search.ledger.study_place import StudyPlace, read_study_place, write_study_place
from hpa_search.storage.patience import PATIENCE, Patience, Tell, Unreachable
from hpa_search.system_errors import OUT, message, refused
from hpa_search.system_files import is_system_file

End = Literal["complete", "pruned", "failed"]
_ENDS: dict[End, TrialState] = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
logger = logging.getLogger(__name__)

T = TypeVar("T")

optuna.logging.set_verbosity(optuna.logging.WARNING)


@dataclass(frozen=True)
class TrialRecord:
    """What the ledger knows of one trial; ``reports`` maps epochs, from 1, to the objective.

    One that is ``set_aside`` was pruned because the search was finished, and goes on where that is extended.
    """

    number: int
    parameters: dict[str, Any]
    target: int
    reports: dict[int, float]
    end: End | None
    ended: str | None
    set_aside: bool = False

    @property
    def epochs(self) -> int:
        """How many epochs have been reported."""
        return max(self.reports, default=0)


class LedgerError(UserError):
    """The ledger cannot be written any more: its disk is full, or its database stayed away."""


class Ledger:
    """Reads and writes the study of one search. Only the driver that holds the lease may write.

    ``where`` names it in messages. A database that is away is waited for, for so many ``seconds``, which ``tell`` hears.
    """

    def __init__(
        self, storage: BaseStorage, study_id: int, where: str, *, seconds: float = PATIENCE, tell: Tell = logger.warning
    ) -> None:
        self.storage, self.where = storage, where
        self._study_id, self._tell = study_id, tell
        self._patience = Patience(where, transient=is_away, seconds=seconds, tell=tell)
        self._ids: dict[int, int] = {}
        self.guard: Callable[[], None] = lambda: None
        """Called before each write, from any thread; raises LedgerError where another driver has taken the search."""

    @classmethod
    def create(cls, out: Path, name: str, *, seconds: float = PATIENCE, tell: Tell = logger.warning) -> "Ledger":
        """Open the study of the search in ``out``, creating it where there is none: see `study_place.choose_study`.

        Raises UserError for a damaged journal, and for a database that cannot be had.
        """
        if (place := read_study_place(out)) is not None:
            if (found := _in_database(place, seconds, tell)) is not None:
                return found
            _begun(out, place)
            return cls.create(out, name, seconds=seconds, tell=tell)
        if not (out / JOURNAL).exists() and _is_trained(out):
            raise UserError(
                f"{out / JOURNAL}: is gone, and {out / 'trials'} has been trained; restore it, or choose another --out"
            )
        with _named(out / JOURNAL):
            storage = open_journal(out / JOURNAL)
            studies = storage.get_all_studies()
            if not studies and (out / JOURNAL).stat().st_size:
                raise ValueError("it is not empty and holds no study")
            study_id = studies[0]._study_id if studies else storage.create_new_study([StudyDirection.MAXIMIZE], name)
            ledger = cls(storage, study_id, str(out / JOURNAL), seconds=seconds, tell=tell)
            ledger.trials()
        return ledger

    @classmethod
    def open(cls, out: Path, *, seconds: float = 0.0, tell: Tell = logger.warning) -> "Ledger":
        """Open the study of the search in ``out`` for reading; a database that is away is waited for, for so many ``seconds``.

        Raises UserError where there is no search.
        """
        if (place := read_study_place(out)) is not None:
            if (found := _in_database(place, seconds, tell)) is not None:
                return found
            raise UserError(f"{out}: holds no search yet; give the --out of a `hpa-search run`")
        path = out / JOURNAL
        if not path.is_file():
            raise UserError(f"{out}: no search here ({JOURNAL} is missing); give the --out of a `hpa-search run`")
        with _named(path):
            storage = open_journal(path)
            ledgers = [cls(storage, study._study_id, str(path), seconds=0) for study in storage.get_all_studies()]
            for ledger in ledgers:
                ledger.trials()
        if not ledgers:
            raise UserError(f"{path}: holds no search yet; give the --out of a `hpa-search run`")
        return ledgers[0]

    @staticmethod
    def is_in(out: Path) -> bool:
        """Whether the search in ``out`` has a study, as far as its folder tells."""
        return (out / STUDY).is_file() or (out / JOURNAL).is_file()

    def trials(self) -> list[TrialRecord]:
        """Return the facts of all trials, by number."""
        return [_facts(trial) for trial in self.frozen()]

    def frozen(self) -> list[FrozenTrial]:
        """Return Optuna's own records of all trials, by number."""
        return self._ask(lambda: self.storage.get_all_trials(self._study_id, deepcopy=False))

    def add(self, number: int, parameters: dict[str, Any], distributions: dict[str, BaseDistribution], *, target: int) -> None:
        """Record a new trial, the next, in one write."""
        trial = create_trial(
            state=TrialState.RUNNING, params=parameters, distributions=distributions, user_attrs={"target": target}
        )

        def once() -> None:
            # A connection may be lost when its work is done: what was asked for is then there.
            if self.storage.get_n_trials(self._study_id) == number:
                self.storage.create_new_trial(self._study_id, template_trial=trial)
            elif self.storage.get_trial(self._id(number)).params != parameters:
                raise LedgerError(f"{self.where}: another driver has added trial {number}; this one ends")

        self._write(once)

    def report(self, number: int, epoch: int, objective: float) -> None:
        """Record a trial's objective after ``epoch`` epochs."""
        self._write(lambda: self.storage.set_trial_intermediate_value(self._id(number), epoch, objective))

    def set_target(self, number: int, target: int) -> None:
        """Record that a trial may train to ``target`` epochs: its promotion."""
        self._write(lambda: self.storage.set_trial_user_attr(self._id(number), "target", target))

    def end(self, number: int, end: End, why: str) -> None:
        """Record the end of a trial; the value of a complete one is its best report. Ending it again changes nothing."""

        def once() -> None:
            trial = self.storage.get_trial(self._id(number))
            if trial.state.is_finished():
                return
            self.storage.set_trial_user_attr(self._id(number), "ended", why)
            values = [max(trial.intermediate_values.values())] if end == "complete" else None
            self.storage.set_trial_state_values(self._id(number), _ENDS[end], values)

        self._write(once)

    def set_aside(self, number: int, why: str | None) -> None:
        """Record that the search is finished without more of this trial, and ``why``; None that it goes on after all."""
        self._write(lambda: self.storage.set_trial_user_attr(self._id(number), "set_aside", why))

    def note(self, key: str, value: Any) -> None:
        """Record a JSON value about the whole search."""
        self._write(lambda: self.storage.set_study_user_attr(self._study_id, key, value))

    def noted(self) -> Mapping[str, Any]:
        """Return all values recorded about the whole search."""
        return self._ask(lambda: self.storage.get_study_user_attrs(self._study_id))

    def hurry(self) -> None:
        """Wait no more for a database that is away, not even in a call that is waiting."""
        self._patience.seconds = 0

    def _id(self, number: int) -> int:
        if number not in self._ids:
            self._ids[number] = self.storage.get_trial_id_from_study_id_trial_number(self._study_id, number)
        return self._ids[number]

    def _write(self, call: Callable[[], None]) -> None:
        """Write as `_ask` asks, but not in the place of another driver: `guard` is called before each attempt."""

        def guarded() -> None:
            self.guard()
            call()

        self._ask(guarded, "the ledger cannot be written")

    def _ask(self, call: Callable[[], T], doing: str = "the ledger cannot be read") -> T:
        """Call the storage, again and again while its database is away; LedgerError if that does not help."""
        try:
            return self._patience(lambda: _unwrapped(call))
        except Unreachable as error:
            if self.where.startswith("sqlite") and error.__cause__ is not None:
                raise LedgerError(explained(error.__cause__, self.where, doing)) from error  # type: ignore[arg-type]
            raise LedgerError(f"the ledger's database is away: {error}") from error
        except OSError as error:
            raise LedgerError(message(error, self.where, option=OUT, doing=doing)) from error
        except SQLAlchemyError as error:
            raise LedgerError(explained(error, self.where, doing)) from error


def _unwrapped(call: Callable[[], T]) -> T:
    """Call a storage; Optuna hides what a database says behind words of its own."""
    try:
        return call()
    except StorageInternalError as error:
        raise error.__cause__ or error from None


def _in_database(place: StudyPlace, seconds: float, tell: Tell) -> Ledger | None:
    """Return the ledger in a database, None if it has not been begun. Raises UserError if it was, and is not there.

    One that was begun is waited for; with the first one somebody waits, and its address may have been mistyped.
    """
    storage = open_database(place.url, seconds=seconds if place.begun else 0.0, tell=tell)
    try:
        with _asking(place):
            study_id = storage.get_study_id_from_name(place.name)
    except KeyError:
        if not place.begun:
            return None
        raise UserError(
            f"{place.url}: knows no study {place.name}, which this search has there; restore that database, or say in the search's "
            f"{STUDY} where it is now"
        ) from None
    return Ledger(storage, study_id, place.url, seconds=seconds, tell=tell)


def _begun(out: Path, place: StudyPlace) -> None:
    """Begin the study in its database, and note that."""
    with suppress(DuplicatedStudyError), _asking(place):
        open_database(place.url).create_new_study([StudyDirection.MAXIMIZE], place.name)
    write_study_place(out, place.model_copy(update={"begun": True}))


@contextmanager
def _asking(place: StudyPlace) -> Iterator[None]:
    """Raise LedgerError for what the database says in the block."""
    try:
        yield
    except (StorageInternalError, SQLAlchemyError) as error:
        cause = error.__cause__ if isinstance(error, StorageInternalError) else error
        if not isinstance(cause, SQLAlchemyError):
            raise
        raise LedgerError(explained(cause, place.url, "the study cannot be looked for")) from error


def _is_trained(out: Path) -> bool:
    return any(not is_system_file(path.parent.name) for path in out.glob("trials/*/checkpoint.pt"))


@contextmanager
def _named(journal: Path) -> Iterator[None]:
    """Turn whatever Optuna raises for a journal that is none, or damaged, or that the system refuses, into a message that names it."""
    try:
        yield
    except OSError as error:
        raise refused(error, journal, option=OUT, doing="the ledger cannot be opened") from error
    except (ValueError, LookupError, TypeError, AssertionError) as error:
        raise UserError(f"{journal}: damaged, or no ledger of a search ({error})") from None


def _facts(trial: FrozenTrial) -> TrialRecord:
    ends = {state: end for end, state in _ENDS.items()}
    aside = None if trial.state.is_finished() else trial.user_attrs.get("set_aside")
    return TrialRecord(
        number=trial.number,
        parameters=dict(trial.params),
        target=trial.user_attrs["target"],
        reports=dict(trial.intermediate_values),
        end="pruned" if aside else ends.get(trial.state),
        ended=aside or trial.user_attrs.get("ended"),
        set_aside=aside is not None,
    )
