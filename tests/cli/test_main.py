"""The command line as a module of Python."""

import subprocess
import sys

from hpa_search import __version__


def test_it_runs_where_the_console_script_is_not_installed():
    command = [sys.executable, "-m", "hpa_search.cli", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith(__version__)
