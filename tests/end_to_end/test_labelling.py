"""The final stage of a search whose driver's machine has nothing to compute on: the slots of another node label, through a kill."""

import subprocess
import time
from contextlib import contextmanager, suppress

import numpy as np
import pandas as pd
import psutil
import pytest

from hpa_search.bundle.manifest import read_manifest
from hpa_search.bundle.predict import bundle_probabilities
from hpa_search.bundle.submission import write_submission
from hpa_search.data.kaggle import read_dataset
from hpa_search.data.packed import pack
from hpa_search.engine.labelling import LABELLED, ROWS
from hpa_search.phantom.dataset import make_phantom
from tests.end_to_end.small_search import SPACE, run_command
from tests.servers.head import ENVIRONMENT, RAY, ray_head

pytestmark = pytest.mark.ray
TEST_IMAGES = 2000


@contextmanager
def node_of(head, log):
    """Hold a node with two CPUs in the cluster of ``head``."""
    command = [RAY, "start", f"--address={head.address}", "--block", "--num-cpus=2"]
    with log.open("wb") as output:
        environment = {**ENVIRONMENT, "RAY_AUTH_MODE": "token"}
        process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True, env=environment)
    try:
        deadline = time.monotonic() + 60
        while len([node for node in head._ask("nodes") if node["state"] == "ALIVE"]) < 2:
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.5)
        yield
    finally:
        everything = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
        for one in everything:
            one.kill()
        psutil.wait_procs(everything, timeout=20)


def kill_one(title):
    """Kill a process whose title begins so, once there is one."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.cmdline() and process.cmdline()[0].startswith(title):
                    process.kill()
                    return
        time.sleep(0.05)
    raise AssertionError(f"no process {title}")


def test_the_slots_label_what_a_head_without_resources_asks_for_and_a_kill_costs_no_finished_portion(tmp_path):
    make_phantom(tmp_path / "data", images=80, size=32, seed=3, lift=3, test_images=TEST_IMAGES)
    space = SPACE.format(trials=2, epochs=1).replace("max_members: 1", "max_members: 2, ensemble: uniform, tta: mean")
    (tmp_path / "space.yaml").write_text(space.replace("slots: 1", "slots: 2"))
    out, kept = tmp_path / "out", tmp_path / "out" / LABELLED
    with ray_head(tmp_path / "head.log", cpus=0) as head, node_of(head, tmp_path / "node.log"):
        command = [*run_command(tmp_path, out), "--ray", head.address]
        environment = {**ENVIRONMENT, "RAY_AUTH_MODE": "token"}
        portions = 2 * -(-TEST_IMAGES // ROWS)

        def start():
            with (tmp_path / "log").open("ab") as log:
                return subprocess.Popen(command, stdout=log, stderr=log, env=environment)

        process = start()
        while not (out / "result.json").exists() or len(list(kept.glob("*.npy"))) < portions // 2:
            assert process.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.02)
        process.kill()
        process.wait()
        before = {path.name: path.stat().st_mtime_ns for path in kept.glob("*.npy")}
        assert not (out / "submission.csv").exists()
        process = start()
        kill_one("ray::Labeller.label")
        assert process.wait(300) == 0, (tmp_path / "log").read_text()
        again = (tmp_path / "log").read_text().split("Choosing among")[-1]
        assert f" of {portions} portion(s) are known already." in again, again
        assert not list(kept.glob("*")) and before
        assert head.living() == []
    manifest, dataset = read_manifest(out / "bundle"), read_dataset(tmp_path / "data")
    assert len(manifest.members) == 2 and manifest.tta == "mean"
    images = pack(dataset.test_folder, dataset.test_ids, tmp_path / "cache")
    probabilities = bundle_probabilities(out / "bundle", manifest, images, np.arange(TEST_IMAGES))
    write_submission(tmp_path / "here.csv", dataset.test_ids, manifest.decision_rule.decide(probabilities).labels)
    pd.testing.assert_frame_equal(pd.read_csv(out / "submission.csv"), pd.read_csv(tmp_path / "here.csv"))
