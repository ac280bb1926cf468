"""Shared options, and how a refusal reaches the user."""

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from hpa_search.cli.options import CACHE, FOLDER, GIVEN, PLACE, Fault, console_here, is_standard_output, told
from hpa_search.errors import UserError
from hpa_search.storage.place import Place


def converted(kind, *values):
    """Return what a command gets for an option of this ``kind``."""
    got = []

    @click.command()
    @click.option("--at", type=kind, multiple=True)
    def command(at):
        got.extend(at)

    result = CliRunner().invoke(command, [word for value in values for word in ("--at", value)])
    return got if result.exit_code == 0 else result.output


def test_each_kind_of_path():
    assert converted(GIVEN, "a/b", "s3://bucket/a") == ["a/b", "s3://bucket/a"]
    assert converted(FOLDER, "a/b", "/c") == [Path("a/b"), Path("/c")]
    assert converted(PLACE, "a/b", "s3://bucket/a") == [Path("a/b"), Place.of("s3://bucket/a")]


@pytest.mark.parametrize("kind", [GIVEN, FOLDER, PLACE])
@pytest.mark.parametrize("text", ["", "  "])
def test_an_empty_path_may_be_an_unset_variable(kind, text):
    assert "Error: --at: is empty; give a path (is a variable of the command not set?)" in converted(kind, text)


def test_a_url_with_one_slash_is_refused():
    assert "s3:/bucket" in converted(PLACE, "s3:/bucket/a") and "Error: " in converted(PLACE, "s3:/bucket/a")


def ended(error):
    @click.command()
    @told
    def command():
        raise error

    return CliRunner().invoke(command, [])


def test_a_refusal_is_one_message_with_exit_code_2():
    result = ended(UserError("x: wrong; give y"))
    assert (result.exit_code, result.output) == (2, "Error: x: wrong; give y\n")


def test_a_refusal_of_a_cluster_keeps_its_exit_code():
    error = UserError("x: wrong; give y")
    error.exit_code = 7
    assert ended(error).exit_code == 7
    assert Fault("x", 7).exit_code == 7


def test_an_error_that_no_user_can_mend_keeps_its_traceback():
    assert isinstance(ended(KeyError("x")).exception, KeyError)


def test_the_default_cache_is_in_the_environment_or_at_home(monkeypatch, tmp_path):
    @click.command()
    @CACHE
    def command(cache):
        click.echo(cache)

    monkeypatch.setenv("HPA_SEARCH_CACHE", str(tmp_path / "named"))
    assert CliRunner().invoke(command, []).output == f"{tmp_path / 'named'}\n"
    monkeypatch.delenv("HPA_SEARCH_CACHE")
    assert CliRunner().invoke(command, []).output == f"{tmp_path / '.cache' / 'hpa-search'}\n"
    assert CliRunner().invoke(command, ["--cache", "x"]).output == "x\n"


def test_data_on_standard_output_keeps_messages_off_it(tmp_path):
    assert is_standard_output(None, Path("/dev/stdout")) and not is_standard_output(tmp_path / "file", None)
    assert console_here(aside=True).stderr and not console_here().stderr
