"""A new search on a cluster."""

from pathlib import Path

from hpa_search.cluster.dashboard import Dashboard
from hpa_search.cluster.jobs import tidy
from hpa_search.cluster.places import place_options
from hpa_search.cluster.sending import RAY, check_idle, send
from hpa_search.ledger.study_place import check_url
from hpa_search.search.reading import read_search


def submit(
    space: Path,
    address: str,
    data: str,
    out: str,
    *,
    external: str | None = None,
    cache: str | None = None,
    study: str | None = None,
) -> list[str]:
    """Send the search of the file ``space`` to the cluster whose dashboard is at ``address``, such as http://HEAD:8265.

    ``data``, ``out``, ``external`` and ``cache`` are as the cluster's nodes see them: whole paths, or but for the cache URLs
    such as s3://bucket/folder; ``study`` is the URL of a database for the ledger. The job runs this very installation's code,
    so the nodes need its dependencies only. Returns the lines that tell how to go on from there. Raises UserError if the file
    is at fault, the cluster cannot be reached or refuses the job, or a job is at work on ``out`` already.
    """
    search, text = read_search(space)
    places = {"--data": data, "--out": tidy(out), "--external": external, "--cache": cache}
    given = place_options(places)
    if study is not None:
        given += ["--study", check_url(study)]
    dashboard = Dashboard(address)
    check_idle(dashboard, tidy(out))
    command = ["run", "search.yaml", *given, *RAY]
    lines = send(dashboard, command, search=search.name, out=tidy(out), cache=cache, text=text)
    if "://" in out and study is None:
        lines.append(f"Where no search has begun in {out}, the job will ask for --study: an object store holds no study.")
    return lines
