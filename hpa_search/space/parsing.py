"""Parse the text of a search file. Refuse the file if it can draw a configuration that cannot be built."""

import random
from collections.abc import Iterable, Iterator

from pydantic import ValidationError

from hpa_search.config import TrialConfig, Value
from hpa_search.errors import UserError
from hpa_search.explain import explain, faults
from hpa_search.space.search import Point, Search
from hpa_search.space.yaml_file import load_mapping
from hpa_search.training.check import STRUCTURAL, check_trial

DRAWS_CHECKED = 300
MOST_COMBINATIONS = 200_000
SIZES = ("full_size", "small_size", "crop_size")


def parse_search(text: str, where: str) -> Search:
    """Return the search in the text of a file; ``where`` names the file in messages.

    Some settings decide whether a network can be built (see `STRUCTURAL`): each of their combinations is checked. So are a few
    hundred random configurations. Raises UserError that names the key, the value, and the allowed values.
    """
    search = parse_checked(text, where)
    _check_configurations(search, where)
    return search


def parse_checked(text: str, where: str) -> Search:
    """Return the search in a text that `parse_search` has accepted before. Check each key, but build no configuration."""
    content = load_mapping(text, where)
    try:
        return Search.model_validate(content)
    except ValidationError as error:
        raise explain(error, where, Search) from None


def _check_configurations(search: Search, where: str) -> None:
    for name in SIZES:
        if name in search.space and search.space[name].choice is None:
            raise UserError(f"{where}: space.{name}: give a choice; each size is checked against each backbone")
    checked: set[frozenset[tuple[str, Value]]] = set()
    try:
        for values in configurations(search):
            if (known := frozenset(values.items())) not in checked:
                checked.add(known)
                _check(search, values, where)
    except ValueError as error:
        raise UserError(f"{where}: {error}") from None


def configurations(search: Search) -> Iterator[Point]:
    """Yield the start points, random draws, and each combination of the structural settings."""
    rng = random.Random(0)
    for point in search.points:
        yield search.draw(rng, point)
    for _ in range(DRAWS_CHECKED):
        yield search.draw(rng)
    yield from _combinations(search)


def _combinations(search: Search) -> Iterator[Point]:
    names = _closure(search, [*STRUCTURAL, *(name for choices in search.exclude for name in choices)])
    for number, values in enumerate(search.assignments(names)):
        if number == MOST_COMBINATIONS:
            raise ValueError(
                f"space: over {MOST_COMBINATIONS:,} combinations of {', '.join(names)}, too many to check each; narrow it"
            )
        if not search.excluded(values):
            yield values


def _closure(search: Search, names: Iterable[str]) -> list[str]:
    """Return those of ``names`` that vary, and the dimensions that they depend on, in the file's order."""
    found: dict[str, None] = {}
    waiting = [name for name in names if name in search.space]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = None
            waiting += [*search.space[name].when, *search.space[name].unless]
    return [name for name in search.space if name in found]


def _check(search: Search, values: Point, where: str) -> None:
    try:
        check_trial(search.trial_config(values))
    except ValueError as error:
        fault = faults(error, TrialConfig)[0] if isinstance(error, ValidationError) else error
        shown = {name: value for name, value in values.items() if name in STRUCTURAL} or dict(values)
        what = "the fixed settings cannot work"
        if values:
            what = f"the space holds a configuration that cannot work, {shown}"
        hint = "; leave the value out, or add such a line to 'exclude'" if values else ""
        raise UserError(f"{where}: {what}: {fault}{hint}") from None
