import signal
import subprocess
import sys

import pytest

from hpa_search.files import whole, write_json, write_text


def test_a_file_appears_whole_with_its_folder(tmp_path):
    path = tmp_path / "new" / "folder" / "a.txt"
    with whole(path) as temporary:
        temporary.write_text("half")
        assert temporary.parent == path.parent
        assert not path.exists()
    assert path.read_text() == "half"
    assert [entry.name for entry in path.parent.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_an_exception_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(error), whole(path) as temporary:
        temporary.write_text("new")
        raise error
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


def test_a_kill_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    program = (
        "import sys, time, pathlib\n"
        "from hpa_search.files import whole\n"
        "with whole(pathlib.Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('new'); print('writing', flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"writing\n"
        process.send_signal(signal.SIGKILL)
    assert path.read_text() == "old"
    assert all(entry.name.startswith(".a.txt.") for entry in tmp_path.iterdir() if entry != path)
    write_text(path, "newer")
    assert path.read_text() == "newer"


def test_text_is_utf_8_and_json_has_no_nan(tmp_path):
    write_text(tmp_path / "a.txt", "å\n")
    assert (tmp_path / "a.txt").read_bytes() == "å\n".encode()
    write_json(tmp_path / "a.json", {"x": [1, 2.5]})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert (tmp_path / "a.json").read_text() == '{\n  "x": [\n    1,\n    2.5\n  ]\n}\n'


def test_a_folder_in_the_place_of_the_file_is_kept(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    with pytest.raises(OSError, match="directory"):
        write_text(tmp_path / "a", "text")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]
