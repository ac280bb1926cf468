"""The search spaces that come with the software: each can be read, and the published systems are all there."""

import random
import time
from functools import cache
from pathlib import Path

import pytest

from hpa_search.config import CONDITIONS, TrialConfig
from hpa_search.search.reading import read_search
from hpa_search.space.parsing import parse_search
from hpa_search.space.search import Search
from hpa_search.space.yaml_file import load_mapping, read_text

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[1]
SPACES = ROOT / "search_spaces"
PHANTOM_STUDIES = ROOT / "tests" / "benchmarks" / "studies"
ROWS = (
    *("s0-a", "s0-b1", "s0-b2", "s0-b3", "s0-c", "s0-d1", "s0-d2", "s0-d3", "s0-e", "s0-f", "s0-final"),
    *("s1-1", "s1-2", "s1-3", "s1-4", "s2-a0", "s2-a1", "s2-b0", "s2-b1"),
    *("s3-0", "s3-1", "s3-2", "s3-3", "s3-4", "s3-5", "s3-6", "s4-1"),
)
SLOWEST = 60
"""Seconds of a processor that reading the whole space may take."""

NOT_IN_FULL = {"weights", "stem", "normalise", "steps_per_epoch", "full_size", "replicate"}
"""What the start points of the whole space leave to it: it is from scratch, and its epochs have one length."""


def files() -> list[Path]:
    found = [*SPACES.rglob("*.yaml"), *PHANTOM_STUDIES.glob("*.yaml")]
    return sorted(path for path in found if path != SPACES / "full.yaml")


@cache
def unchecked(path: Path) -> Search:
    """Return what a file says without building its networks, which one test does for all."""
    return Search.model_validate(load_mapping(read_text(path), str(path)))


def published(row: str) -> Search:
    return unchecked(SPACES / "published" / f"{row}.yaml")


def configurations(search: Search) -> list[TrialConfig]:
    return [search.trial_config(point) for point in search.points or ({},)]


@pytest.fixture(scope="module")
def full() -> Search:
    started = time.process_time()
    search, _ = read_search(SPACES / "full.yaml")
    assert time.process_time() - started < SLOWEST
    return search


@pytest.mark.parametrize("path", files(), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_file_can_be_read(path):
    search, _ = read_search(path)
    assert search.name.endswith(path.stem.replace("_", "-"))


@pytest.mark.parametrize("row", ROWS)
def test_every_row_of_the_reports_has_its_file(row):
    search, about = published(row), published(row).about
    assert about is not None and about.system.lower().startswith(row)
    assert all([about.source, about.reported, about.protocol, about.filled_in, *about.filled_in])
    text = (SPACES / "published" / f"{row}.yaml").read_text(encoding="utf-8")
    assert text.startswith(f"# {about.system.partition(',')[0]}:")
    assert search.scheduler.kind == "none" and search.most_trials in (1, 2)
    assert not search.split.grouped, "the reports split by image"


def test_the_published_folder_holds_nothing_else_but_winners():
    names = {path.stem for path in (SPACES / "published").iterdir()}
    assert {name for name in names if not name.startswith("winner-")} == set(ROWS)


def test_a_baseline_and_what_is_said_to_differ_from_it_differ_in_that_alone():
    def config(name: str) -> dict[str, object]:
        return configurations(published(name))[0].model_dump()

    def differing(one: str, other: str) -> set[str]:
        return {name for name, value in config(one).items() if config(other)[name] != value}

    assert differing("s0-d1", "s0-d2") == {"class_weights", "weight_site", "weight_power"}
    assert differing("s0-d1", "s0-d3") == {"loss", "gamma"}
    assert differing("s0-b2", "s0-b3") == {"resolution"}
    assert differing("s0-b1", "s0-b2") == {"resolution"}
    assert not differing("s0-e", "s0-final")
    assert differing("s1-3", "s1-4") == {"backbone"}
    assert differing("s1-2", "s1-3") == {"sampling", "sampling_share", "sampling_copies", "augment"}
    assert differing("s2-b0", "s2-b1") == {"last_epochs", "last_loss", "last_freeze", "last_learning_rate"}
    assert differing("s3-1", "s3-2") == {"class_weights", "weight_site"}
    assert differing("s3-5", "s3-6") == {"schedule", "weight_decay"}


def test_the_whole_space_holds_every_setting_that_its_trials_can_have(full):
    configs = [full.trial_config(full.draw(random.Random(seed))) for seed in range(200)]
    never = {name for name, when in CONDITIONS.items() if not any(when.holds(getattr(c, when.parent)) for c in configs)}
    left_out = set(TrialConfig.model_fields) - {*full.space, *full.fixed} - never
    assert left_out == {"hidden_size", "steps_per_epoch", "replicate"}


@pytest.mark.parametrize("row", ROWS)
def test_the_whole_space_starts_from_the_published_systems(full, row):
    def key(config: TrialConfig) -> dict[str, object]:
        values = config.model_dump(exclude=NOT_IN_FULL)
        values["backbone"] = config.backbone.partition(".")[0]
        if config.resolution != "downsize":
            del values["small_size"]
        return values

    starts = [key(config) for config in configurations(full)]
    assert any(key(config) in starts for config in configurations(published(row)))


def test_start_points_of_the_whole_space_leave_nothing_to_chance(full):
    for point in full.start_points:
        assert set(point) == set(full.draw(random.Random(0), point))


def test_a_study_compares_seeds_beside_its_settings():
    for folder in (SPACES / "studies", PHANTOM_STUDIES):
        for path in folder.glob("*.yaml"):
            search = unchecked(path)
            assert search.sampler == "grid" and len(search.points) <= 24
            assert len(search.space["replicate"].extremes) >= 2


def test_the_phantom_studies_ask_what_the_studies_ask():
    for path in (SPACES / "studies").glob("*.yaml"):
        assert list(unchecked(path).space) == list(unchecked(PHANTOM_STUDIES / path.name).space)


def test_the_guide_shows_a_file_that_can_be_read_and_names_every_setting():
    text = (SPACES / "README.md").read_text(encoding="utf-8")
    block = text.partition("```yaml\n")[2].partition("```")[0]
    assert parse_search(block, "README.md").name == "mine"
    table = text.partition("## Settings of a trial")[2].partition("\n## ")[0]
    assert all(f"`{name}`" in table for name in TrialConfig.model_fields)
    assert all("beside" in line for name in CONDITIONS for line in table.splitlines() if line.startswith(f"| `{name}`"))
