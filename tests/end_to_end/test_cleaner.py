"""What Ray Train starts beside a run goes when the run's controller does, by itself, whatever Ray the host had before."""

import tempfile
import time
from contextlib import suppress
from pathlib import Path

import pytest
import ray
from ray._common.utils import get_ray_address_file
from ray._private.state import actors
from ray.exceptions import RayActorError
from ray.util import placement_group, placement_group_table

from hpa_search.engine.cleaner import SelfStartingCleaner
from tests.servers.ports import free_port

pytestmark = pytest.mark.ray
SETTINGS = {"get_actor_timeout_s": 10.0, "stop_timeout": None}


@pytest.fixture
def local_ray(monkeypatch):
    """A Ray on a host where one was killed that `ray start` had brought up: its user's commands still go there."""
    # A socket's path is short, and a log may still be written.
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        monkeypatch.setenv("RAY_TMPDIR", folder)
        monkeypatch.setenv("RAY_API_SERVER_ADDRESS", f"http://127.0.0.1:{free_port()}")
        last_started = Path(get_ray_address_file(None))
        assert last_started.is_relative_to(folder)
        last_started.parent.mkdir(exist_ok=True)
        last_started.write_text(f"127.0.0.1:{free_port()}")
        ray.init(address="local", num_cpus=1, log_to_driver=False)
        try:
            yield
        finally:
            ray.shutdown(wait_for_processes=True)


def test_a_cleaner_whose_controller_died_frees_its_places_and_ends_untold(local_ray):
    controller, cleaner = pair(check_interval_s=0.5)
    group = held_by(cleaner)
    ray.kill(controller)
    wait_for(lambda: state(cleaner) == "DEAD")
    assert placement_group_table(group)["state"] == "REMOVED"


def test_a_cleaner_whose_controller_died_before_it_had_places_ends_untold(local_ray):
    controller, cleaner = pair(check_interval_s=0.5)
    ray.kill(controller)
    wait_for(lambda: state(cleaner) == "DEAD")


def test_a_cleaner_that_is_told_to_end_does_not_sleep_on(local_ray):
    _controller, cleaner = pair(check_interval_s=300.0)
    group = held_by(cleaner)
    with suppress(RayActorError):
        ray.get(cleaner.stop.remote(), timeout=60)
    assert placement_group_table(group)["state"] == "CREATED"  # its controller lives


class Controller:
    """Stands where the controller would."""

    def actor_id(self) -> str:
        """Return what Ray calls it."""
        return ray.get_runtime_context().get_actor_id()


def pair(check_interval_s):
    """Start a controller and its cleaner, as detached as Ray Train's."""
    controller = ray.remote(num_cpus=0)(Controller).remote()
    made = ray.remote(num_cpus=0)(SelfStartingCleaner).options(lifetime="detached")
    its_id = ray.get(controller.actor_id.remote())
    return controller, made.remote(controller_actor_id=its_id, check_interval_s=check_interval_s, **SETTINGS)


def held_by(cleaner):
    """Return a placement group that the cleaner knows."""
    group = placement_group([{"CPU": 1}])
    ray.get([cleaner.register_placement_group.remote(group), group.ready()])
    return group


def state(actor):
    """Return what Ray says of an actor; None where it does not know it yet."""
    return actors(actor._actor_id.hex()).get("State")


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)
