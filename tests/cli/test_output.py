"""Commands print whatever they have to, to whatever they are given, or to nobody."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

WORKS = """
import sys, time
from hpa_search.cli.output import Stream, standard_streams, unwatched

@unwatched
def work():
    for line in range(3000):
        print("line", line, "of many, each long enough to fill the pipe in the end", flush=line % 7 == 0)
    print("to stderr", file=sys.stderr)
    with open(sys.argv[1], "w") as file:
        file.write("done")

with standard_streams():
    work()
"""


def ran(tmp_path, program, stdout, **more):
    done = tmp_path / "done"
    process = subprocess.Popen([sys.executable, "-c", program, str(done)], stdout=stdout, stderr=subprocess.PIPE, **more)
    return process, done


def test_a_reader_that_leaves_does_not_end_the_work(tmp_path):
    process, done = ran(tmp_path, WORKS, subprocess.PIPE)
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(60) == 0
    assert done.read_text() == "done"
    assert process.stderr.read() == b"to stderr\n"
    process.stderr.close()


def test_a_full_disk_under_the_log_does_not(tmp_path):
    with Path("/dev/full").open("wb") as full:
        process, done = ran(tmp_path, WORKS, full)
        assert process.wait(60) == 0
    assert done.read_text() == "done"
    process.stderr.close()


def test_a_terminal_that_is_gone_does_not(tmp_path):
    ours, theirs = os.openpty()
    process, done = ran(tmp_path, WORKS, theirs, start_new_session=True)
    os.close(theirs)
    os.read(ours, 10)
    os.close(ours)
    assert process.wait(60) == 0
    assert done.read_text() == "done"
    process.stderr.close()


CLOSED = """
import os, sys
from hpa_search.cli.output import standard_streams
with standard_streams():
    print("nobody reads this")
    print("nor this", file=sys.stderr)
    file = open(sys.argv[1], "w")
    assert file.fileno() > 2
    os.write(1, b"not in the file")
    file.write("done")
"""


def test_files_do_not_take_the_place_of_streams_that_are_closed(tmp_path):
    done = tmp_path / "done"
    command = f'exec "{sys.executable}" -c "$0" "$1" <&- >&- 2>&-'
    assert subprocess.run(["sh", "-c", command, CLOSED, str(done)], check=False).returncode == 0
    assert done.read_text() == "done"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8", "cp1252"])
@pytest.mark.parametrize("word", ["Zürich", "顕微鏡", "Zell\udce4", "a\u2026"])
def test_any_text_can_be_printed(encoding, word):
    program = f"from hpa_search.cli.output import standard_streams\nwith standard_streams(): print({word!r})"
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode(encoding).strip() == word.encode(encoding, "backslashreplace").decode(encoding)


def test_a_short_answer_still_ends_with_its_reader(tmp_path):
    impatient = WORKS.replace("@unwatched", "")
    process, done = ran(tmp_path, impatient, subprocess.PIPE)
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(60) != 0
    assert not done.exists()
    process.stderr.close()


SLOW_READER = """
import os, sys, time
from hpa_search.cli.output import standard_streams, unwatched

@unwatched
def work():
    for line in range(40):
        print("x" * 4096, flush=True)
    os.write(2, b"full")
    sys.stdin.readline()
    print("LATER", flush=True)

os.set_blocking(1, False)
with standard_streams():
    work()
"""


def test_a_reader_who_is_slow_once_still_gets_what_comes_later():
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_READER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stderr.read(4) == b"full"
    os.set_blocking(process.stdout.fileno(), False)
    while process.stdout.read(65536):
        pass
    os.set_blocking(process.stdout.fileno(), True)
    out, _ = process.communicate(b"go on\n", timeout=60)
    assert process.returncode == 0
    assert out.endswith(b"LATER\n")
