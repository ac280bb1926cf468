"""Which search a command means: an OUT visible here, or a search on a Ray cluster."""

from functools import partial

import click

from hpa_search.cli.options import GIVEN, console_here
from hpa_search.handle import SearchHandle

TARGET = click.argument("target", type=GIVEN)
ADDRESS = click.option(
    "--address",
    envvar="RAY_API_SERVER_ADDRESS",
    default=None,
    help="The dashboard of a Ray cluster, such as http://HEAD:8265. TARGET is then the name of a job, or an OUT as the cluster's "
    "nodes see it. Without an address TARGET is an OUT visible here.  [default: $RAY_API_SERVER_ADDRESS]",
)


def search_at(target: str, address: str | None, *, is_starting: bool = False) -> SearchHandle:
    """Return a handle on the search ``target``, by the dashboard at ``address`` or else by its OUT.

    ``is_starting`` says that the driver of an OUT is starting. A handle on a cluster's search sees that by itself.
    """
    if address:
        from hpa_search.cluster.control import ClusterHandle

        return ClusterHandle(target, address, say=click.echo, warn=partial(click.echo, err=True))
    from hpa_search.control import OutHandle

    return OutHandle(target, say=click.echo, console=console_here(), is_starting=is_starting)
