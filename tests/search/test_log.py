import os
import re

from hpa_search.search.log import LOG, SearchLog


def test_lines_from_before_it_is_open_are_kept(tmp_path):
    log = SearchLog()
    log.write("the first")
    assert list(tmp_path.iterdir()) == []
    log.open(tmp_path)
    log.write("the second")
    lines = (tmp_path / LOG).read_text().splitlines()
    assert [line.split(" ", 2)[2] for line in lines] == ["the first", "the second"]
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d{4} ", line) for line in lines)


def test_another_driver_appends(tmp_path):
    for name in ("one", "two"):
        log = SearchLog()
        log.open(tmp_path)
        log.write(name)
    assert [line.split(" ", 2)[2] for line in (tmp_path / LOG).read_text().splitlines()] == ["one", "two"]


def test_a_log_that_cannot_be_written_ends_nothing(tmp_path):
    log = SearchLog()
    log.open(tmp_path / "missing")
    log.write("lost")


def test_names_that_are_no_text_are_written_all_the_same(tmp_path):
    log = SearchLog()
    log.open(tmp_path)
    log.write("Zell\udce4")
    assert "Zell\\udce4" in (tmp_path / LOG).read_text()


def test_a_pipe_in_its_place_that_nobody_reads_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / LOG)
    log = SearchLog()
    log.open(tmp_path)
    log.write("lost")
