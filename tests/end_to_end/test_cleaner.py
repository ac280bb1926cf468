"""What Ray Train starts beside a run goes by itself when the run's controller is gone before it has said a word."""

import time
from contextlib import suppress

import pytest
import ray
from ray.exceptions import RayActorError
from ray.util import placement_group, placement_group_table
from ray.util.state import list_actors
from ray.util.state.exception import RayStateApiException

from hpa_search.search.cleaner import SelfStartingCleaner

pytestmark = pytest.mark.ray


@pytest.fixture
def local_ray():
    ray.init(address="local", num_cpus=1, log_to_driver=False)
    yield
    ray.shutdown()


def test_a_cleaner_whose_controller_is_gone_ends_untold(local_ray):
    settings = {"check_interval_s": 0.5, "get_actor_timeout_s": 10.0, "stop_timeout": None}
    cleaner = ray.remote(num_cpus=0)(SelfStartingCleaner).options(lifetime="detached")
    cleaner.remote(controller_actor_id="0" * 32, **settings)
    deadline = time.monotonic() + 60
    while states() != ["DEAD"]:
        assert time.monotonic() < deadline, states()
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


def states():
    """Return what Ray says of the cleaners; nothing while its dashboard is not up yet."""
    try:
        return [actor.state for actor in list_actors(filters=[("class_name", "=", SelfStartingCleaner.__name__)])]
    except (RayStateApiException, OSError):
        return []
