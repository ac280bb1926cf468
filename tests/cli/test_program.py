"""What a signal does to a command."""

import os
import signal
import subprocess
import sys
import time

import pytest

SLOW = """
import sys, time
import click
from hpa_search.cli.program import Program

@click.group(cls=Program)
def main(): pass

@main.command()
def work():
    try:
        print("begun", flush=True)
        time.sleep(600)
    finally:
        print("cleared away", flush=True)

main(["work"])
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_command_clears_away_and_says_that_it_was_interrupted(number):
    process = subprocess.Popen([sys.executable, "-c", SLOW], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "begun\n"
    process.send_signal(number)
    out, errors = process.communicate(timeout=60)
    assert (process.returncode, out, errors) == (130, "cleared away\n", "Interrupted.\n")


def test_a_signal_that_a_library_makes_an_error_of_its_own_of_is_one_all_the_same():
    """As when it comes while a class of PyTorch's is made."""
    program = SLOW.replace(
        "    finally:",
        "    except KeyboardInterrupt:\n        raise RuntimeError('Error calling __set_name__') from None\n    finally:",
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=60)
    assert (process.returncode, out, errors) == (130, "cleared away\n", "Interrupted.\n")


def test_a_signal_in_a_callback_that_drops_exceptions_ends_the_command_all_the_same():
    """As when it comes around a fork while a library is imported."""
    dropping = "class Dropping:\n    def __del__(self):\n        import os, signal\n        os.kill(os.getpid(), signal.SIGINT)\n"
    program = dropping + SLOW.replace("time.sleep(600)", "Dropping(); time.sleep(600)")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (130, "begun\ncleared away\n", "Interrupted.\n")


def test_an_error_without_a_signal_stays_what_it_is():
    program = SLOW.replace("time.sleep(600)", "raise RuntimeError('mine')")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1 and "RuntimeError: mine" in done.stderr


def test_nohup_is_honoured_and_ctrl_c_reaches_what_a_script_started_in_the_background():
    ignored = "import signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN); signal.signal(signal.SIGINT, signal.SIG_IGN); "
    ignored += "import os; os.execv(sys.executable, [sys.executable, '-c', sys.argv[1]])"
    process = subprocess.Popen([sys.executable, "-c", ignored, SLOW], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130


def test_a_phantom_that_is_interrupted_leaves_nothing(tmp_path):
    folder = tmp_path / "phantom"
    command = [sys.executable, "-m", "hpa_search.cli", "data", "phantom", str(folder), "--images", "5000", "--size", "64"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env={**os.environ})
    deadline = time.monotonic() + 60
    while not list(folder.glob("train/*.png")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Interrupted." in errors and "Traceback" not in errors
    assert not folder.exists()


def test_a_current_folder_that_is_gone_is_told(tmp_path):
    command = 'mkdir gone && cd gone && rmdir "$PWD" && exec "$0" -m hpa_search.cli data check /data'
    done = subprocess.run(["sh", "-c", command, sys.executable], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (
        2,
        "Error: the current folder is gone; cd to one that exists, then give the same command again\n",
    )
