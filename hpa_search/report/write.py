"""Write the report on a search."""

from pathlib import Path

from hpa_search.report.advice import advice
from hpa_search.report.answer import answer
from hpa_search.report.classes import classes
from hpa_search.report.cost import cost
from hpa_search.report.facts import NEEDED, Facts, read_facts
from hpa_search.report.mistakes import mistakes
from hpa_search.report.page import Listing, Page, Section, table
from hpa_search.report.trials import trials
from hpa_search.storage.opened import WorkingCopy, opened
from hpa_search.storage.place import Location

REPORT = "report.html"
MARKDOWN = "report"


def write_report(
    out: Location | WorkingCopy, cache: Path, *, data: Location | None = None, markdown: bool = False, to: Path | None = None
) -> str:
    """Write the report on the search in ``out``; return its place.

    It is OUT/report.html, or the file ``to``. With ``markdown`` it is the folder OUT/report, or the folder ``to``, with README.md and
    its pictures. ``data`` is the new place of a dataset that was moved. Raises UserError without a search.
    """
    with opened(out, cache, *NEEDED, keeps=to is None) as work:
        page = make_page(read_facts(work, cache, data))
        path = to or work.folder / (MARKDOWN if markdown else REPORT)
        if markdown:
            page.write_markdown(path)
        else:
            page.write_html(path)
        return str(to or work.place / path.name)


def make_page(facts: Facts) -> Page:
    """Return the page: the answer first, then what it rests on."""
    done = f"{len(facts.trials)} trials, {sum(trial.epochs for trial in facts.trials)} epochs, {facts.state}"
    sections = (
        answer(facts),
        *trials(facts),
        *classes(facts),
        mistakes(facts),
        cost(facts),
        advice(facts),
        _origin(facts),
    )
    return Page(f"{facts.search.name}: report of the search", f"{facts.place} · {done}", sections)


def _origin(facts: Facts) -> Section:
    provenance = facts.provenance
    rows = [
        {"what": "dataset", "value": provenance.data},
        {"what": "its fingerprint", "value": provenance.fingerprint},
        {"what": "images", "value": f"{provenance.images} of {provenance.native_size} px"},
        {"what": "hpa-search", "value": provenance.version},
        *({"what": name, "value": version} for name, version in provenance.packages.items()),
    ]
    return Section("Origin", (table("Data and versions", rows), Listing("The search file", facts.text)))
