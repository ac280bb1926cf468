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
    """Send the search of the file ``space`` to the cluster with the dashboard ``address``.

    The address is such as http://HEAD:8265. ``data``, ``out`` and ``external`` are places as the cluster's nodes see them:
    absolute paths, or URLs such as s3://bucket/folder. ``cache`` is an absolute path on each node. ``study`` is the URL of a
    database for the ledger. The job brings the code of this installation, so the nodes need only its dependencies.

    Returns the job's name and the commands for it, as lines. Raises UserError for a faulty file and for an ``out``
    that has a running job. Raises UserError too if the cluster cannot be reached or refuses the job.
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
        lines.append(f"If {out} holds no search yet, the job will fail: a new search in an object store needs --study.")
    return lines
