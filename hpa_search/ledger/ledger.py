"""The ledger: one Optuna study that holds every fact of a search. Each fact is written before it is acted on.

A trial that is not complete, pruned or failed is RUNNING in the study. Its target is the epoch that it may train to. With a
report at its target it is paused. Without that report it is in training or interrupted.

A finished search sets its unfinished trials aside: they are pruned. They run again if the search is extended (`successor`).
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import DuplicatedStudyError, StorageInternalError
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy.exc import SQLAlchemyError

from hpa_search.errors import UserError
from hpa_search.layout import STUDY
from hpa_search.ledger.database import explained, is_away, open_database
from hpa_search.ledger.journal import JOURNAL, open_journal
from hpa_search.ledger.study_place import StudyPlace, read_study_place, write_study_place
from hpa_search.ledger.successor import CONTINUES_AS, SET_ASIDE, first, latest, take_up
from hpa_search.storage.patience import OUTAGE_SECONDS, Patience, Say, Unreachable
from hpa_search.system_errors import OUT, message, refused
from hpa_search.system_files import is_system_file

End = Literal["complete", "pruned", "failed"]
_ENDS: dict[End, TrialState] = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
logger = logging.getLogger(__name__)

T = TypeVar("T")

optuna.logging.set_verbosity(optuna.logging.WARNING)


@dataclass(frozen=True)
class TrialRecord:
    """The ledger's record of one trial. ``reports`` maps epochs, from 1, to the objective.

    ``end`` is None until the trial has ended, and ``ended`` says why it has. A trial that is ``set_aside`` was pruned when the
    search was finished. It resumes if the search is extended.
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
        """The last reported epoch, 0 before the first."""
        return max(self.reports, default=0)


class LedgerError(UserError):
    """The ledger cannot be written any more: its disk is full, or its database stayed away."""


class Ledger:
    """Reads and writes the study of one search. Only the driver that holds the lease may write.

    ``where`` names the study in messages. A call waits up to ``seconds`` for a database that is away, and says so by ``tell``.
    """

    def __init__(
        self, storage: BaseStorage, study_id: int, where: str, *, seconds: float = OUTAGE_SECONDS, tell: Say = logger.warning
    ) -> None:
        self.storage, self.where = storage, where
        self._study_id, self._tell = study_id, tell
        self._patience = Patience(where, transient=is_away, seconds=seconds, tell=tell)
        self._ids: dict[int, int] = {}
        self.guard: Callable[[], None] = lambda: None
        """Called before each write, from any thread. Raises LedgerError if another driver has taken the search."""

    @classmethod
    def create(cls, out: Path, name: str, *, seconds: float = OUTAGE_SECONDS, tell: Say = logger.warning) -> "Ledger":
        """Open the study of the search in ``out``. Create a missing study in the place that `study_place.choose_study` chose.

        Raises UserError for a damaged journal, and for a database that cannot be used.
        """
        if (place := read_study_place(out)) is not None:
            if (found := _in_database(place, seconds, tell)) is not None:
                return found
            _begun(out, place)
            return cls.create(out, name, seconds=seconds, tell=tell)
        if not (out / JOURNAL).exists() and _is_trained(out):
            raise UserError(
                f"{out / JOURNAL}: is missing, but {out / 'trials'} has been trained; "
                "restore the journal, or choose another --out"
            )
        with _named(out / JOURNAL):
            storage = open_journal(out / JOURNAL)
            study_id = first(storage)
            if study_id is None:
                if (out / JOURNAL).stat().st_size:
                    raise ValueError("it is not empty and holds no study")
                study_id = storage.create_new_study([StudyDirection.MAXIMIZE], name)
            ledger = cls(storage, latest(storage, study_id), str(out / JOURNAL), seconds=seconds, tell=tell)
            ledger.trials()
        return ledger

    @classmethod
    def open(cls, out: Path, *, seconds: float = 0.0, tell: Say = logger.warning) -> "Ledger":
        """Open the study of the search in ``out`` for reading. Wait up to ``seconds`` for a database that is away.

        Raises UserError if ``out`` holds no search.
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
            study_id = first(storage)
            ledger = None if study_id is None else cls(storage, latest(storage, study_id), str(path), seconds=0)
            if ledger is not None:
                ledger.trials()
        if ledger is None:
            raise UserError(f"{path}: holds no search yet; give the --out of a `hpa-search run`")
        return ledger

    @classmethod
    def in_memory(cls, name: str) -> "Ledger":
        """Return a new ledger that no file holds."""
        storage = InMemoryStorage()
        return cls(storage, storage.create_new_study([StudyDirection.MAXIMIZE], name), "memory")

    @staticmethod
    def is_in(out: Path) -> bool:
        """Return whether the folder ``out`` holds a journal or names a database."""
        return (out / STUDY).is_file() or (out / JOURNAL).is_file()

    def trials(self) -> list[TrialRecord]:
        """Return the records of all trials, by number."""
        return [_record(trial) for trial in self.frozen()]

    def frozen(self) -> list[FrozenTrial]:
        """Return Optuna's own records of all trials, by number."""
        return self._ask(lambda: self.storage.get_all_trials(self._study_id, deepcopy=False))

    def add(self, number: int, parameters: dict[str, Any], distributions: dict[str, BaseDistribution], *, target: int) -> None:
        """Record the next trial in one write. Raises LedgerError if another driver has added that number."""
        trial = create_trial(
            state=TrialState.RUNNING, params=parameters, distributions=distributions, user_attrs={"target": target}
        )

        def once() -> None:
            # A connection may break after the write was done: the retry then finds the trial.
            if self.storage.get_n_trials(self._study_id) == number:
                self.storage.create_new_trial(self._study_id, template_trial=trial)
            elif self.storage.get_trial(self._id(number)).params != parameters:
                raise LedgerError(f"{self.where}: another driver has added trial {number}; this driver ends")

        self._write(once)

    def report(self, number: int, epoch: int, objective: float) -> None:
        """Record a trial's objective after ``epoch`` epochs."""
        self._write(lambda: self.storage.set_trial_intermediate_value(self._id(number), epoch, objective))

    def set_target(self, number: int, target: int) -> None:
        """Record a promotion: a trial may train to ``target`` epochs."""
        self._write(lambda: self.storage.set_trial_user_attr(self._id(number), "target", target))

    def end(self, number: int, end: End, why: str) -> None:
        """Record the end of a trial. Its value is its best report, unless it has failed. A second end changes nothing."""
        self._finish(number, "ended", why, _ENDS[end])

    def set_aside(self, number: int, why: str) -> None:
        """Record ``why`` a finished search has set a trial aside: it is pruned until `take_up`."""
        self._finish(number, SET_ASIDE, why, TrialState.PRUNED)

    def take_up(self) -> None:
        """Take all set-aside trials back into the search, which goes on in a copy of its study."""

        def once() -> None:
            if self._study_id == latest(self.storage, self._study_id):
                take_up(self.storage, self._study_id)

        self._write(once)
        self.noted()

    def _finish(self, number: int, attribute: str, why: str, state: TrialState) -> None:
        def once() -> None:
            trial = self.storage.get_trial(self._id(number))
            if trial.state.is_finished():
                return
            self.storage.set_trial_user_attr(self._id(number), attribute, why)
            scores = [] if state is TrialState.FAIL else trial.intermediate_values.values()
            self.storage.set_trial_state_values(self._id(number), state, [max(scores)] if scores else None)

        self._write(once)

    def note(self, key: str, value: Any) -> None:
        """Record a JSON value about the whole search."""
        self._write(lambda: self.storage.set_study_user_attr(self._study_id, key, value))

    def noted(self) -> Mapping[str, Any]:
        """Return all values recorded about the whole search. Another driver may have taken its study up in a copy: follow it."""
        while (
            name := (noted := self._ask(lambda: self.storage.get_study_user_attrs(self._study_id))).get(CONTINUES_AS)
        ) is not None:
            self._study_id, self._ids = self._ask(partial(self.storage.get_study_id_from_name, name)), {}
        return noted

    def hurry(self) -> None:
        """Stop waiting for a database that is away, even in a call that waits now."""
        self._patience.seconds = 0

    def _id(self, number: int) -> int:
        if number not in self._ids:
            self._ids[number] = self.storage.get_trial_id_from_study_id_trial_number(self._study_id, number)
        return self._ids[number]

    def _write(self, call: Callable[[], None]) -> None:
        """Call the storage as `_ask` does. `guard` runs before each attempt: another driver may have the search by then."""

        def guarded() -> None:
            self.guard()
            call()

        self._ask(guarded, "the ledger cannot be written")

    def _ask(self, call: Callable[[], T], doing: str = "the ledger cannot be read") -> T:
        """Call the storage, and retry while its database is away. Raises LedgerError if that does not help."""
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
    """Call a storage. Raise the database's own error, which Optuna hides behind its own."""
    try:
        return call()
    except StorageInternalError as error:
        raise error.__cause__ or error from None


def _in_database(place: StudyPlace, seconds: float, tell: Say) -> Ledger | None:
    """Return the ledger in a database; None if its study has not begun. Raises UserError if a begun study is missing.

    Only the database of a begun study is waited for. The URL of a new study may be mistyped, and its user waits.
    """
    storage = open_database(place.url, seconds=seconds if place.begun else 0.0, tell=tell)
    try:
        with _asking(place):
            study_id = latest(storage, storage.get_study_id_from_name(place.name))
    except KeyError:
        if not place.begun:
            return None
        raise UserError(
            f"{place.url}: knows no study {place.name}, which this search has there; restore that database, or write "
            f"its new URL into the search's {STUDY}"
        ) from None
    return Ledger(storage, study_id, place.url, seconds=seconds, tell=tell)


def _begun(out: Path, place: StudyPlace) -> None:
    """Create the study in its database, and note that it has begun."""
    with suppress(DuplicatedStudyError), _asking(place):
        open_database(place.url).create_new_study([StudyDirection.MAXIMIZE], place.name)
    write_study_place(out, place.model_copy(update={"begun": True}))


@contextmanager
def _asking(place: StudyPlace) -> Iterator[None]:
    """Raise LedgerError for an error of the database in the block."""
    try:
        yield
    except (StorageInternalError, SQLAlchemyError) as error:
        cause = error.__cause__ if isinstance(error, StorageInternalError) else error
        if not isinstance(cause, SQLAlchemyError):
            raise
        raise LedgerError(explained(cause, place.url, "the study cannot be read")) from error


def _is_trained(out: Path) -> bool:
    left = (*out.glob("trials/*/checkpoint.pt"), *out.glob("trials/*/metrics.csv"))
    return any(not is_system_file(path.parent.name) for path in left)


@contextmanager
def _named(journal: Path) -> Iterator[None]:
    """Raise UserError that names ``journal`` if it is damaged, is not a journal, or is refused by the system."""
    try:
        yield
    except OSError as error:
        raise refused(error, journal, option=OUT, doing="the ledger cannot be opened") from error
    except (ValueError, LookupError, TypeError, AssertionError) as error:
        raise UserError(
            f"{journal}: damaged, or not the ledger of a search ({error}); restore it, or choose another --out"
        ) from None


def _record(trial: FrozenTrial) -> TrialRecord:
    ends = {state: end for end, state in _ENDS.items()}
    aside = trial.user_attrs.get(SET_ASIDE)
    return TrialRecord(
        number=trial.number,
        parameters=dict(trial.params),
        target=trial.user_attrs["target"],
        reports=dict(trial.intermediate_values),
        end="pruned" if aside else ends.get(trial.state),
        ended=aside or trial.user_attrs.get("ended"),
        set_aside=aside is not None,
    )
