"""What Ray Train starts beside a run goes by itself when the run's controller is gone before it has said a word."""

import time

import pytest
import ray
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


def states():
    """Return what Ray says of the cleaners; nothing while its dashboard is not up yet."""
    try:
        return [actor.state for actor in list_actors(filters=[("class_name", "=", SelfStartingCleaner.__name__)])]
    except (RayStateApiException, OSError):
        return []
