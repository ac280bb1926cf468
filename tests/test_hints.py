import shlex
from pathlib import Path

from hpa_search.hints import command


def test_a_command_can_be_typed_as_it_stands():
    assert command("resume", Path("/shared/first")) == "hpa-search resume /shared/first"
    assert shlex.split(command("resume", Path("/my data/it's"))) == ["hpa-search", "resume", "/my data/it's"]
