"""A study that goes on in another one of the same storage.

Optuna resumes no ended trial, and a finished search has none but ended trials. A search that is extended goes on in a copy of its
study, in which the trials that were set aside run again. The study before keeps them as they had ended, and names its successor.
"""

from copy import copy

from optuna.exceptions import DuplicatedStudyError
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

SET_ASIDE = "set_aside"
"""A trial's attribute: why a finished search has set it aside."""
CONTINUES_AS = "continues_as"
"""A study's attribute: the name of its successor, which is whole."""
_COPY_OF, _EXTENSION = "copy_of", "extension"


def latest(storage: BaseStorage, study_id: int) -> int:
    """Return the last successor of a study, or the study itself."""
    while (name := storage.get_study_user_attrs(study_id).get(CONTINUES_AS)) is not None:
        study_id = storage.get_study_id_from_name(name)
    return study_id


def first(storage: BaseStorage) -> int | None:
    """Return the oldest study of a storage that holds one search, or None if it holds none."""
    return min((study._study_id for study in storage.get_all_studies()), default=None)


def take_up(storage: BaseStorage, study_id: int) -> int:
    """Copy a study, its set-aside trials running again. Name the copy as the study's successor, and return it."""
    noted = storage.get_study_user_attrs(study_id)
    successor = _empty(storage, noted.get(_COPY_OF) or storage.get_study_name_from_id(study_id), noted.get(_EXTENSION, 0) + 1)
    for key in noted.keys() - {_COPY_OF, _EXTENSION}:
        storage.set_study_user_attr(successor, key, noted[key])
    for trial in storage.get_all_trials(study_id, deepcopy=False):
        is_aside = trial.user_attrs.get(SET_ASIDE) is not None
        storage.create_new_trial(successor, template_trial=_running(trial) if is_aside else trial)
    storage.set_study_user_attr(study_id, CONTINUES_AS, storage.get_study_name_from_id(successor))
    return successor


def _running(trial: FrozenTrial) -> FrozenTrial:
    again = copy(trial)
    again.state, again.value, again.datetime_complete = TrialState.RUNNING, None, None
    again.user_attrs = {key: value for key, value in trial.user_attrs.items() if key != SET_ASIDE}
    return again


def _empty(storage: BaseStorage, base: str, extension: int) -> int:
    """Create the study to copy ``base`` into. One that a killed driver has left half copied is deleted."""
    while True:
        name = f"{base}, extended {extension}"
        try:
            successor = storage.create_new_study([StudyDirection.MAXIMIZE], name)
        except DuplicatedStudyError:
            other = storage.get_study_id_from_name(name)
            if storage.get_study_user_attrs(other).get(_COPY_OF) == base:
                storage.delete_study(other)
            else:  # somebody's own
                extension += 1
            continue
        storage.set_study_user_attr(successor, _COPY_OF, base)
        storage.set_study_user_attr(successor, _EXTENSION, extension)
        return successor
