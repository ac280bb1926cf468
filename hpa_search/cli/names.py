"""Options whose value is a name: their help lists the names from the place that defines them."""

from collections.abc import Callable, Mapping
from typing import Any, get_args

import click

NAMES, FIRST = "{names}", "{first}"
"""The marks in a help text that all names and the first name replace."""


class Named(click.Option):
    """An option whose help lists ``names``, each with a phrase about it or an empty string.

    ``names`` is called when the help is shown: the modules that define the names take seconds to import.
    """

    def __init__(self, *declarations: Any, names: Callable[[], Mapping[str, str]], **settings: Any) -> None:
        super().__init__(*declarations, **settings)
        self._names = names

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Return the option and its help, with the names in place of the marks."""
        record = super().get_help_record(ctx)
        if record is None:
            return None
        known = self._names()
        entries = [f"{name} ({about})" if about else name for name, about in known.items()]
        return record[0], record[1].replace(NAMES, ", ".join(entries)).replace(FIRST, next(iter(known)))


def selections() -> Mapping[str, str]:
    """Return the ways to choose members."""
    from hpa_search.scoring.ensemble import SELECTIONS

    return SELECTIONS.about


def rules() -> Mapping[str, str]:
    """Return the threshold rules."""
    from hpa_search.scoring.rules import RULES

    return RULES.about


def test_time() -> Mapping[str, str]:
    """Return the kinds of test-time augmentation."""
    from hpa_search.config import TestTime

    return dict.fromkeys(get_args(TestTime), "")
