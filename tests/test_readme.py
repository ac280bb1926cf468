"""What the README shows is what the software takes."""

import re
from pathlib import Path

import pytest

from hpa_search.space.parsing import parse_search

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_search_file_it_shows_can_be_read():
    (block,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    assert parse_search(block, "README.md").name == "first"


@pytest.mark.parametrize(
    "document", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "cluster/README.md", "docs/design.md", "search_spaces/README.md"]
)
def test_links_lead_somewhere(document):
    path = ROOT / document
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target
