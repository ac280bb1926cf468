"""Both handles can be used in the same place."""

import inspect

import pytest

from hpa_search.cluster.control import ClusterHandle
from hpa_search.control import OutHandle
from hpa_search.handle import SearchHandle, Snapshot

METHODS = ("status", "pause", "stop", "extend", "resume")


@pytest.mark.parametrize("kind", [OutHandle, ClusterHandle])
@pytest.mark.parametrize("method", METHODS)
def test_a_method_has_the_parameters_of_the_protocol(kind, method):
    assert inspect.signature(getattr(kind, method)) == inspect.signature(getattr(SearchHandle, method))


@pytest.mark.parametrize(
    ("state", "is_active"),
    [("running", True), ("preparing", True), ("paused", False), ("stopped", False), ("interrupted", False), ("finished", False)],
)
def test_a_snapshot_knows_whether_a_driver_is_at_work(state, is_active):
    found = Snapshot({"state": state, "seconds": 0.0, "trials": []})
    assert (found.state, found.is_active) == (state, is_active)
