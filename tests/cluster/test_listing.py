"""The list of jobs."""

import json

import pytest

from hpa_search.cluster.jobs import Job
from hpa_search.cluster.listing import duration, for_programs, table

JOBS = [
    Job(name="toy-2", search="toy", out="/shared/toy", state="RUNNING", started=10_000.0),
    Job(name="a-long-name-1", search="a-long-name", out="s3://b/f", state="SUCCEEDED", started=1000.0, ended=8325.0),
    Job(name="x", search="x", out="/x", state="PENDING"),
]


def test_a_table_for_people():
    lines = table(JOBS, now=10_042.0)
    assert [line.split()[0] for line in lines] == ["JOB", "toy-2", "a-long-name-1", "x"]
    assert "  42s  " in lines[1] and lines[1].endswith("  /shared/toy")
    assert "  2h02m  " in lines[2]
    assert lines[3].split() == ["x", "x", "PENDING", "-", "-", "/x"]
    assert len({line.index(word) for line, word in zip(lines, ("OUT", "/shared", "s3:", "/x"), strict=True)}) == 1


def test_json_for_programs():
    found = json.loads(json.dumps(for_programs(JOBS, now=9_000.0)))
    assert [job["seconds"] for job in found] == [0.0, 7325.0, None]
    assert found[1]["state"] == "SUCCEEDED"


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "0s"), (59.4, "59s"), (60, "1m00s"), (3599, "59m59s"), (3600, "1h00m"), (90_000, "1d01h")]
)
def test_durations(seconds, words):
    assert duration(seconds) == words
