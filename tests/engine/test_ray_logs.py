import os

import pytest

from hpa_search.engine.ray_logs import MOST_LINES, RayLogs


@pytest.fixture
def logs(tmp_path):
    folder = tmp_path / "session_2026-01-01_00-00-00_000000_1" / "logs"
    folder.mkdir(parents=True)
    return folder


def test_a_python_that_ended_while_it_imported_is_told_first(tmp_path, logs):
    (logs / "gcs_server.out").write_text("a line of the server's\n")
    (logs / "worker-a.err").write_text(":job_id:01\n:actor_name:Proxy\n")
    assert RayLogs(tmp_path).last_words() == "\n  gcs_server.out:\n  a line of the server's"
    (logs / "raylet.err").write_text("Traceback (most recent call last):\n\nImportError: no such module\n")
    assert (
        RayLogs(tmp_path).last_words() == "\n  raylet.err:\n  Traceback (most recent call last):\n  ImportError: no such module"
    )


def test_of_several_workers_the_last_lines_of_the_latest(tmp_path, logs):
    for age, name in enumerate(("new", "old")):
        path = logs / f"worker-{name}.err"
        path.write_text("".join(f"{name} {line}\n" for line in range(50)))
        os.utime(path, (1000 - age, 1000 - age))
    lines = RayLogs(tmp_path).last_words().splitlines()
    assert lines[1:] == ["  worker-new.err:", *(f"  new {line}" for line in range(50 - MOST_LINES, 50))]


def test_without_a_log_there_is_nothing_to_say(tmp_path):
    assert RayLogs(tmp_path).last_words() == " nothing here; Ray's logs are on its nodes"
    assert RayLogs(tmp_path).faults() == []


@pytest.mark.parametrize(
    ("line", "is_fault"),
    [
        ("ImportError: libcudart.so.12", True),
        ("ModuleNotFoundError: No module named 'numpy'", True),
        ("ray.exceptions.RaySystemError: System error", True),
        ("KeyboardInterrupt", True),
        ("FutureWarning: pynvml is deprecated", False),
        ("an Error: in the middle", False),
    ],
)
def test_only_the_end_of_a_traceback_is_a_fault(tmp_path, logs, line, is_fault):
    (logs / "raylet.err").write_text(f"{line}\n")
    assert RayLogs(tmp_path).faults() == ([line] if is_fault else [])
