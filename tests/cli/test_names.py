import subprocess
import sys

import pytest
from click.testing import CliRunner

from hpa_search.cli import main
from hpa_search.scoring.ensemble import SELECTIONS
from hpa_search.scoring.rules import DEFAULT, RULES


@pytest.mark.parametrize("command", ["finish", "ensemble"])
def test_help_lists_every_name_with_what_it_does(command):
    text = " ".join(CliRunner().invoke(main, [command, "--help"]).output.split())
    for registry in (SELECTIONS, RULES):
        for name, about in registry.about.items():
            assert f"{name} ({about})" in text
    assert "{" not in text
    if command == "ensemble":
        assert f"[default: {DEFAULT}]" in text and "[default: greedy]" in text
    else:
        assert "none, mean, max" in text


def test_the_names_are_imported_only_for_the_help_that_shows_them():
    program = (
        "import sys; from click.testing import CliRunner; from hpa_search.cli import main\n"
        "for options in (['--help'], ['run', '--help'], ['ensemble', '--help']):\n"
        "    assert CliRunner().invoke(main, options).exit_code == 0\n"
        "    print('scipy' in sys.modules, 'torch' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == ["False False", "False False", "True False"]
