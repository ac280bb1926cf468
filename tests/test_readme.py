"""What the README shows is what the software takes."""

import re
from pathlib import Path

import pytest

from hpa_search.config import TrialConfig
from hpa_search.search.reading import parse_search

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_search_file_it_shows_can_be_read():
    (block,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    assert parse_search(block, "README.md").name == "first"


def test_it_lists_every_setting_of_a_trial():
    table = README[README.index("| setting of a trial") : README.index("The resolution strategies")]
    assert set(re.findall(r"`(\w+)`", table)) >= set(TrialConfig.model_fields)


@pytest.mark.parametrize("document", ["README.md", "cluster/README.md", "CHANGELOG.md"])
def test_links_lead_somewhere(document):
    path = ROOT / document
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target


@pytest.mark.parametrize("path", sorted((ROOT / "search_spaces").rglob("*.yaml")), ids=lambda path: path.name)
def test_every_search_space_that_is_shipped_can_be_read(path):
    parse_search(path.read_text(encoding="utf-8"), str(path))
