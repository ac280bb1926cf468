"""Jobs of searches are recognised by their metadata."""

import pytest

from hpa_search.cluster.jobs import find_job, find_target, look_again, our_jobs, tidy, wait_for_end
from hpa_search.cluster.remote import HELPER
from hpa_search.errors import UserError


@pytest.fixture
def jobs(stand_in):
    first = {"hpa_search": "toy", "out": "/shared/toy"}
    stand_in.add("toy-1", "SUCCEEDED", first, start_time=1_000_000, end_time=3_500_000)
    stand_in.add("toy-2", "RUNNING", {**first, "cache": "/local"}, start_time=9_000_000, message="Job is currently running.")
    stand_in.add("far-1", "FAILED", {"hpa_search": "far", "out": "s3://bucket/far"}, start_time=5_000_000)
    stand_in.add("somebody's", "RUNNING", {"job_name": "other"})
    stand_in.add("no-metadata", "RUNNING", None)
    stand_in.add("helper", "RUNNING", {HELPER: "status"})
    stand_in.jobs["a driver"] = {"type": "DRIVER", "job_id": "01000000", "status": "RUNNING", "entrypoint": ""}


def test_ours_are_listed_the_newest_first(jobs, dashboard):
    found = our_jobs(dashboard)
    assert [job.name for job in found] == ["toy-2", "far-1", "toy-1"]
    assert found[0].model_dump() == {
        "name": "toy-2", "search": "toy", "out": "/shared/toy", "cache": "/local", "state": "RUNNING",
        "started": 9000.0, "ended": None, "message": "Job is currently running.",
    }  # fmt: skip
    assert (found[2].over, found[2].ended, found[0].over) == (True, 3500.0, False)


@pytest.mark.parametrize("name", ["toy-2", "/shared/toy", "/shared/toy/", "/shared/./toy"])
def test_a_job_is_found_by_its_name_and_the_newest_by_its_folder(jobs, dashboard, name):
    assert find_job(dashboard, name).name == "toy-2"


def test_an_older_job_has_its_own_log_and_the_same_search(jobs, dashboard):
    assert find_job(dashboard, "toy-1").name == "toy-1"
    target = find_target(dashboard, "toy-1")
    assert (target.out, target.job.name) == ("/shared/toy", "toy-2")


def test_a_folder_in_an_object_store(jobs, dashboard):
    assert find_target(dashboard, "s3://bucket/far/").job.name == "far-1"


def test_a_folder_that_no_job_is_known_of_may_hold_a_search(jobs, dashboard):
    target = find_target(dashboard, "/elsewhere/")
    assert (target.out, target.job) == ("/elsewhere", None)


@pytest.mark.parametrize("name", ["toy-3", "somebody's", "helper", "shared/toy", ""])
def test_an_unknown_name_lists_what_is_there(jobs, dashboard, name):
    for find in (find_job, find_target):
        with pytest.raises(UserError, match=r"toy-2 \(/shared/toy, RUNNING\), far-1 \(s3://bucket/far, FAILED\), toy-1"):
            find(dashboard, name)


def test_an_unknown_name_where_nothing_is(dashboard):
    with pytest.raises(UserError, match="it knows no job of hpa-search at all"):
        find_job(dashboard, "toy-1")


def test_a_long_list_is_cut(stand_in, dashboard):
    for number in range(15):
        stand_in.add(f"job-{number:02d}", metadata={"hpa_search": "x", "out": "/x"}, start_time=number + 1)
    with pytest.raises(UserError, match="it knows job-14 .*job-05 .*, and 5 older ones"):
        find_job(dashboard, "missing")


def test_a_job_that_the_cluster_has_forgotten(jobs, stand_in, dashboard):
    job = find_job(dashboard, "toy-2")
    del stand_in.jobs["toy-2"]
    with pytest.raises(UserError, match="does not know toy-2 any more.*hpa-search resume /shared/toy --address http://127"):
        look_again(dashboard, job, print)


def test_the_end_of_a_job_is_waited_for_in_vain(jobs, dashboard):
    assert wait_for_end(dashboard, find_job(dashboard, "toy-2"), 0.1, print).state == "RUNNING"


def test_one_folder_has_one_name():
    assert {tidy("/a/b"), tidy("/a/b/"), tidy("/a//b"), tidy("/a/./b")} == {"/a/b"}
    assert tidy("s3://a//b/") == "s3://a//b"
