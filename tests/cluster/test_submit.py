"""The command, metadata and environment of a submitted job."""

import shlex

import pytest

from hpa_search.cluster import jobs
from hpa_search.cluster.submit import submit
from hpa_search.errors import UserError

SPACE = "name: toy\nfixed: {small_size: 32, full_size: 32}\nbudget: {trials: 2}\n"


@pytest.fixture
def space(tmp_path):
    (tmp_path / "toy.yaml").write_text(SPACE)
    return tmp_path / "toy.yaml"


def only_job(stand_in):
    (job,) = stand_in.jobs.values()
    return job


def test_a_job_carries_its_search_and_folder(stand_in, dashboard, space):
    lines = submit(
        space, dashboard.address, "s3://bucket/data", "/shared/out/", external="/shared/more", cache="/local/cache",
        study="postgresql://me@host/studies",
    )  # fmt: skip
    job = only_job(stand_in)
    assert job["metadata"] == {"hpa_search": "toy", "out": "/shared/out", "cache": "/local/cache"}
    assert shlex.split(job["entrypoint"]) == [
        "python", "-m", "hpa_search.cli", "run", "search.yaml", "--data", "s3://bucket/data", "--out", "/shared/out",
        "--external", "/shared/more", "--cache", "/local/cache", "--study", "postgresql://me@host/studies", "--ray", "auto",
    ]  # fmt: skip
    environment = job["runtime_env"]
    assert environment["env_vars"] == {
        "RAY_JOB_STOP_WAIT_TIME_S": "60", "RAY_JOB_STOP_SIGNAL": "SIGTERM", "RAY_API_SERVER_ADDRESS": "",
    }  # fmt: skip
    assert environment["working_dir"].startswith("gcs://") and environment["py_modules"][0].startswith("gcs://")
    name = job["submission_id"]
    assert lines[0] == f"Submitted as {name}."
    for word in ("logs", "status", "pause", "stop", "resume", "extend"):
        assert any(f"hpa-search {word} {name} --address {dashboard.address}" in line for line in lines[1:])


@pytest.mark.parametrize(
    ("out", "study", "said"),
    [("s3://bucket/out", None, True), ("s3://bucket/out", "postgresql://me@host/studies", False), ("/shared/out", None, False)],
)
def test_a_folder_in_a_store_without_a_study_is_spoken_of(stand_in, dashboard, space, out, study, said):
    lines = submit(space, dashboard.address, "/data", out, study=study)
    assert any("a new search in an object store needs --study" in line for line in lines) == said


def test_a_cluster_that_has_just_come_up_is_waited_for(stand_in, dashboard, space):
    stand_in.busy = 2
    submit(space, dashboard.address, "/data", "/out")
    assert only_job(stand_in)["status"] == "PENDING"
    assert stand_in.asked.count("POST /api/jobs/") == 3


def test_a_cluster_that_takes_no_job_at_all(stand_in, dashboard, space, monkeypatch):
    monkeypatch.setattr(jobs, "START_SECONDS", 0.5)
    stand_in.busy = 100
    with pytest.raises(UserError, match="did not take the job: No available agent"):
        submit(space, dashboard.address, "/data", "/out")


def test_the_same_code_has_the_same_name(stand_in, dashboard, space):
    for out in ("/a", "/b"):
        submit(space, dashboard.address, "/data", out)
    first, second = (job["runtime_env"] for job in stand_in.jobs.values())
    assert first == second


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"data": "data"}, "--data data: give an absolute path"),
        ({"out": "out"}, "--out out: give an absolute path"),
        ({"external": "more"}, "--external more"),
        ({"cache": "cache"}, "--cache cache"),
        ({"out": "s3://me:hush@bucket/out"}, "leave user, password and keys out"),
        ({"study": "postgresql://me:hush@host/studies"}, "leave the password out"),
        ({"study": "mysql://host/studies"}, "a study is kept in"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_sent(stand_in, dashboard, space, change, words):
    with pytest.raises(UserError, match=words) as refusal:
        submit(space, dashboard.address, **{"data": "/data", "out": "/out", **change})
    assert "hush" not in str(refusal.value)
    assert stand_in.jobs == {}


def test_a_search_that_is_being_run_is_not_sent_again(stand_in, dashboard, space):
    submit(space, dashboard.address, "/data", "/out")
    with pytest.raises(UserError, match=r"toy-\w+ is PENDING on /out already"):
        submit(space, dashboard.address, "/data", "/out/")
    only_job(stand_in)["status"] = "FAILED"
    submit(space, dashboard.address, "/data", "/out")
    assert len(stand_in.jobs) == 2
