"""GPUs as far as Ray goes, which is told of some that are none; the trials only sleep."""

import re

import pytest
from ray.cluster_utils import Cluster

from hpa_search.engine.stay import GPUS
from hpa_search.ledger.ledger import Ledger
from tests.end_to_end.conftest import check_accounts, epochs_begun

pytestmark = pytest.mark.ray


@pytest.fixture
def cluster():
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "num_gpus": 0, "include_dashboard": True})
    yield cluster
    cluster.shutdown()


def test_a_search_under_way_on_cpus_goes_on_with_gpus_that_come(cluster, start_search, tmp_path):
    search = start_search(ray=cluster.address, gpus="auto", slots=1, cpus=1, trials=2, kind="none", top=30, seconds=1.0)
    search.wait_until(lambda trials: bool(trials and trials[0].reports))
    assert "1 slot(s), each 1 CPU(s) and 0 GPU(s)." in (tmp_path / "log").read_text()
    cluster.add_node(num_cpus=1, num_gpus=1)
    assert search.wait() == 0
    log = (tmp_path / "log").read_text()
    assert log.count("The cluster has GPUs now") == 1
    assert log.count("1 slot(s), each 1 CPU(s) and 1 GPU(s).") == 1
    assert Ledger.open(search.out).noted()[GPUS] is True
    check_accounts(search.out, 2)
    assert set(epochs_begun(search.out, 0).values()) == {1}, "running epochs are trained to their ends"


def test_workers_that_cannot_be_connected_end_the_search_and_hold_no_place(cluster, start_search, tmp_path):
    cluster.add_node(num_cpus=2, num_gpus=2)
    search = start_search(ray=cluster.address, gpus=1, workers=2, slots=1, cpus=1, trials=2)
    assert search.wait(400) == 2  # three starts of a group
    said = [line for line in (tmp_path / "log").read_text().splitlines() if line.startswith("Error: ")]
    assert len(said) == 1
    assert re.search(r"no slot could be kept running, the last one because: .*CUDA.*\. Mend that and run it again", said[0])
