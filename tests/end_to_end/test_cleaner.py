"""What Ray Train starts beside a run goes by itself when the run's controller is gone before it has said a word."""

import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import ray
from ray._common.utils import get_ray_address_file
from ray.exceptions import RayActorError
from ray.train.v2._internal.execution.controller import placement_group_cleaner
from ray.util import placement_group, placement_group_table
from ray.util.state import list_actors
from ray.util.state.exception import RayStateApiException

from hpa_search.search.cleaner import SelfStartingCleaner
from tests.servers.ports import free_port

pytestmark = pytest.mark.ray


@pytest.fixture
def local_ray(monkeypatch):
    """A Ray on a host where another was killed, to which its user's commands still go."""
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # a socket's path is short
    monkeypatch.setenv("RAY_TMPDIR", str(folder))
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", f"http://127.0.0.1:{free_port()}")
    last_started = Path(get_ray_address_file(None))
    assert last_started.is_relative_to(folder)
    last_started.parent.mkdir(exist_ok=True)
    last_started.write_text(f"127.0.0.1:{free_port()}")
    ray.init(address="local", num_cpus=1, log_to_driver=False)
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS")
    yield
    ray.shutdown()
    shutil.rmtree(folder)


class ThatFailsOnce(SelfStartingCleaner):
    """A cleaner whose first look at its controller Ray cannot answer."""

    def __init__(self, **settings: Any) -> None:
        answers = placement_group_cleaner.is_actor_alive

        def fails(**_: Any) -> bool:
            placement_group_cleaner.is_actor_alive = answers
            raise RuntimeError("Timed out while waiting for GCS to become available.")

        placement_group_cleaner.is_actor_alive = fails
        super().__init__(**settings)


@pytest.mark.parametrize("kind", [SelfStartingCleaner, ThatFailsOnce])
def test_a_cleaner_whose_controller_is_gone_ends_untold(local_ray, kind):
    settings = {"check_interval_s": 0.5, "get_actor_timeout_s": 10.0, "stop_timeout": None}
    cleaner = ray.remote(num_cpus=0)(kind).options(lifetime="detached")
    cleaner.remote(controller_actor_id="0" * 32, **settings)
    deadline = time.monotonic() + 60
    while states(kind) != ["DEAD"]:
        assert time.monotonic() < deadline, states(kind)
        time.sleep(0.5)


def test_a_cleaner_that_is_told_to_end_does_not_sleep_on(local_ray):
    controller = ray.remote(num_cpus=0)(Controller).remote()
    settings = {"check_interval_s": 300.0, "get_actor_timeout_s": 10.0, "stop_timeout": None}
    actor_id = ray.get(controller.actor_id.remote())
    cleaner = ray.remote(num_cpus=0)(SelfStartingCleaner).remote(controller_actor_id=actor_id, **settings)
    group = placement_group([{"CPU": 1}])
    ray.get([cleaner.register_placement_group.remote(group), group.ready()])
    with suppress(RayActorError):
        ray.get(cleaner.stop.remote(), timeout=30)
    assert placement_group_table(group)["state"] == "CREATED"  # its controller lives


class Controller:
    """Stands where the controller would."""

    def actor_id(self) -> str:
        """Return what Ray calls it."""
        return ray.get_runtime_context().get_actor_id()


def states(kind):
    """Return what Ray says of the cleaners of this kind; nothing while its dashboard is not up yet."""
    here = ray.get_runtime_context().gcs_address
    try:
        found = list_actors(here, filters=[("class_name", "=", kind.__name__)])
    except (RayStateApiException, OSError):
        return []
    return [actor.state for actor in found]
