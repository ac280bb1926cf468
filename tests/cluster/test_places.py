"""Paths and URLs that a job is given."""

import pytest

from hpa_search.cluster.places import check_place
from hpa_search.errors import UserError


@pytest.mark.parametrize(
    "place", ["/shared/hpa", "s3://bucket/folder", "s3://bucket/f?endpoint_override=http://store:9000", "gs://b/f"]
)
def test_whole_paths_and_urls_pass(place):
    assert check_place("--data", place) == place


@pytest.mark.parametrize("place", ["shared/hpa", "./hpa", "~/hpa", "", "s3:/bucket"])
def test_a_path_that_is_not_whole_is_refused(place):
    with pytest.raises(UserError, match="--data .*: give an absolute path or a URL"):
        check_place("--data", place)


@pytest.mark.parametrize(
    "url",
    [
        "s3://me:hush@bucket/f",
        "s3://hush@bucket/f",
        "s3://bucket/f?secret_key=hush",
        "s3://bucket/f?region=x&Access_Key=hush",
        "s3://b/f?token=hush",
    ],
)
def test_a_secret_is_refused_and_not_repeated(url):
    with pytest.raises(UserError, match="leave user, password and keys out") as refusal:
        check_place("--out", url)
    assert "hush" not in str(refusal.value)
