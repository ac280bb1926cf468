"""The whole job with data and OUT on an S3 server and the study in a PostgreSQL; both are away for half a minute in mid-search."""

import json
import os
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner

from hpa_search.cli import main
from hpa_search.phantom.dataset import make_phantom
from hpa_search.storage.mirror import Mirror
from hpa_search.storage.store import Store
from tests.end_to_end.conftest import ray_processes

pytestmark = [pytest.mark.ray, pytest.mark.timeout(1200)]

SPACE = """
name: stored
fixed: {full_size: 32, small_size: 32, batch_size: 16, backbone: test_resnet}
space: {learning_rate: {log_range: [1.0e-3, 1.0e-2]}}
budget: {trials: 4}
scheduler: {kind: promotion, min_epochs: 2, max_epochs: 18, eta: 3}
final: {onnx: false, members: 2}
resources: {slots: 1, cpus: 1, gpus: 0}
"""
AWAY = 30.0


def ask(*arguments):
    result = CliRunner().invoke(main, [*map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.output


def epochs_of(out):
    result = CliRunner().invoke(main, ["status", str(out), "--json"])
    return sum(trial["epochs"] for trial in json.loads(result.output)["trials"]) if result.exit_code == 0 else 0


def test_a_search_on_servers_waits_for_them_and_goes_on(tmp_path, bucket, s3, own_postgres):
    make_phantom(tmp_path / "data", images=240, size=32, seed=1, test_images=4, workers=1)
    Mirror(Store(bucket / "data"), tmp_path / "data").push()
    (tmp_path / "space.yaml").write_text(SPACE)
    out, before, log = bucket / "out", set(ray_processes()), tmp_path / "log"
    words = ["run", tmp_path / "space.yaml", "--data", bucket / "data", "--out", out, "--cache", tmp_path / "cache"]
    command = [sys.executable, "-m", "hpa_search.cli", *map(str, words), "--study", own_postgres.url]
    with log.open("wb") as output:
        driver = subprocess.Popen(command, stdout=output, stderr=output, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        deadline = time.monotonic() + 400
        while epochs_of(out) < 3:  # each look costs the one machine that all of it runs on
            assert driver.poll() is None and time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(3)
        own_postgres.stop()
        with s3.away_for(AWAY):
            pass
        own_postgres.start()
        assert driver.wait(400) == 0, log.read_text()[-3000:]
    finally:
        if driver.poll() is None:
            driver.kill()
    told = log.read_text()
    assert "does not answer" in told and "answers again" in told
    assert str(tmp_path / "cache" / "mirrors") not in told
    found = json.loads(ask("status", out, "--json"))
    assert found["state"] == "finished"
    assert [trial["number"] for trial in found["trials"]] == list(range(4))
    for trial in found["trials"]:
        assert trial["state"] in ("complete", "pruned")
        assert [report["epoch"] for report in trial["reports"]] == list(range(1, trial["epochs"] + 1))
    names = set(Store(out).list())
    assert {"search.yaml", "split.csv", "study.json", "result.json", "submission.csv", "bundle/bundle.json"} <= names
    assert any(name.startswith("tensorboard/") for name in names)
    secret = own_postgres.password.encode()
    assert not [name for name in names if secret in Store(out).read(name)]
    ask("predict", out / "bundle", bucket / "data", "--out", out / "again.csv", "--cache", tmp_path / "cache")
    assert Store(out).read("again.csv") == Store(out).read("submission.csv")
    deadline = time.monotonic() + 20
    while set(ray_processes()) - before and time.monotonic() < deadline:
        time.sleep(0.5)
    assert not set(ray_processes()) - before
