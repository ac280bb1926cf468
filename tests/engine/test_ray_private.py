"""Ray's private parts are where they are looked for; a move is told with a sentence."""

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from hpa_search.engine import ray_private


@pytest.mark.parametrize("name", sorted(ray_private.PARTS))
def test_ray_has_each_part(name):
    assert getattr(ray_private, name) is not None


def test_a_part_that_has_moved_is_named_with_what_to_do(monkeypatch):
    monkeypatch.setitem(ray_private.PARTS, "actors", "ray._private.elsewhere")
    with pytest.raises(ImportError, match=r"Ray .* has no ray\._private\.elsewhere\.actors any more.*install the version"):
        from hpa_search.engine.ray_private import actors  # noqa: F401


def test_ray_is_bounded_by_the_last_version_that_was_tried():
    wanted = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]["dependencies"]
    (ray,) = [requirement for requirement in map(Requirement, wanted) if requirement.name == "ray"]
    assert "2.60.0" in ray.specifier and "2.61.0" not in ray.specifier
