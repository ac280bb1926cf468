"""The demo's search on real images through the command line, and its bundle on images that it never saw."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from hpa_search.labels import NUM_LABELS

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(3600)]

SPACE = Path(__file__).parents[2] / "search_spaces" / "demo.yaml"


def hpa_search(*arguments):
    command = [sys.executable, "-m", "hpa_search.cli", *map(str, arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=3000, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False
    )
    print(done.stdout[-5000:], done.stderr[-5000:])
    assert done.returncode == 0


@pytest.fixture
def real():
    if "HPA_TEST_DATA" not in os.environ:
        pytest.skip("HPA_TEST_DATA names no folder of real images")
    return Path(os.environ["HPA_TEST_DATA"])


def test_a_search_on_real_crops_gives_a_bundle_that_labels_whole_fields(real, tmp_path):
    out, cache = tmp_path / "out", tmp_path / "cache"
    hpa_search("run", SPACE, "--data", real / "hpa-crops-256", "--out", out, "--cache", cache)
    hpa_search("predict", out / "bundle", real / "hpa-fields-512", "--out", tmp_path / "fields.csv", "--cache", cache)
    fields = pd.read_csv(tmp_path / "fields.csv")
    assert sorted(fields.Id) == sorted(pd.read_csv(real / "hpa-fields-512" / "train.csv").Id)
    assert len(fields) == 7
    for predicted in fields.Predicted.astype(str):
        assert all(0 <= int(label) < NUM_LABELS for label in predicted.split())
