"""Label other rows of the same models with an ensemble that `ensemble.make_ensemble` wrote."""

from dataclasses import dataclass
from pathlib import Path

from hpa_search.bundle.submission import check_ending, write_probabilities, write_submission
from hpa_search.errors import UserError
from hpa_search.predictions.chosen import read_chosen
from hpa_search.predictions.reading import read_unlabelled


@dataclass(frozen=True)
class Applied:
    """The number of labelled ``rows``. ``filled`` of them reached no threshold and got their likeliest label."""

    rows: int
    filled: int


def apply_ensemble(folder: Path, path: Path, out: Path, *, logits: bool = False, probabilities: Path | None = None) -> Applied:
    """Label the rows of the predictions in ``path`` with the ensemble in ``folder``.

    Writes ``Id,Predicted`` to ``out``. `reading.read_labelled` describes ``path``. It needs no labels, and only the models
    with a weight. ``probabilities`` is an .npz or .csv file for the calibrated probabilities.
    Raises UserError for a folder without an ensemble, or with a damaged one. Raises UserError for predictions that are at
    fault or lack a model, and for a file name that is a folder's.
    """
    for place in (out, probabilities):
        if place is not None and place.is_dir():
            raise UserError(f"{place}: is a folder; give the name of a file")
    if probabilities is not None:
        check_ending(probabilities)
        if probabilities.absolute() == out.absolute():
            raise UserError(f"{out}: --out and --probabilities are the same file; give --probabilities another name")
    chosen = read_chosen(folder)
    given = read_unlabelled(path, [model.name for model in chosen.members], logits=logits)
    ensemble = chosen.of_members
    found = ensemble.rule.probabilities(ensemble.logits(given.logits))
    decision = ensemble.rule.decide(found)
    if probabilities is not None:
        write_probabilities(probabilities, given.ids, found)
    write_submission(out, given.ids, decision.labels)
    return Applied(len(given.ids), decision.filled)
