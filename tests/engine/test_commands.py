import pytest
from pydantic import ValidationError

from hpa_search.engine.commands import Command, CommandBox, check_extension, extended, extension
from hpa_search.errors import UserError
from hpa_search.space.limits import MOST_TRIALS
from hpa_search.space.settings import Budget
from hpa_search.storage.place import Place


@pytest.fixture(params=["folder", "store"])
def box(tmp_path, request):
    return CommandBox(
        Place.of(tmp_path) / "commands" if request.param == "folder" else request.getfixturevalue("bucket") / "commands"
    )


def test_commands_wait_in_their_order_until_they_are_done(box):
    assert box.waiting() == {}
    wishes = [Command(wish="pause"), Command(wish="extend", trials=3), Command(wish="extend", hours=0.5), Command(wish="stop")]
    names = [box.send(command) for command in wishes]
    assert list(box.waiting().items()) == list(zip(names, wishes, strict=True))
    assert box.holds(names[0])
    box.done(names[0])
    box.done(names[0])
    assert not box.holds(names[0])
    assert list(box.waiting()) == names[1:]


@pytest.mark.parametrize(
    "text", ["", "{}", "[1]", '{"wish": "explode"}', '{"wish": "extend"}', '{"wish": "stop", "trials": 2}', "\x00"]
)
def test_a_file_that_is_no_command(tmp_path, text):
    (tmp_path / "1.json").write_text(text)
    (tmp_path / ".2.json.part").write_text(text)
    (tmp_path / "._1.json").write_bytes(b"\0\5\x16\7")  # which macOS writes beside it on a server's disk
    (tmp_path / "3.json").mkdir()  # what cannot be read now is left for the next look
    assert CommandBox(Place.of(tmp_path)).waiting() == {"1.json": None}


def test_a_command_means_something():
    for fields in ({"wish": "extend"}, {"wish": "pause", "hours": 1.0}, {"wish": "extend", "trials": -1}):
        with pytest.raises(ValidationError):
            Command(**fields)


def test_an_extension_out_of_bounds_is_refused_by_name():
    assert extension(3, None, None) == Command(wish="extend", trials=3)
    for values, key in (
        ((MOST_TRIALS + 1, None, None), "trials"),
        ((None, -1.0, None), "hours"),
        ((None, None, 10**9), "epochs"),
    ):
        with pytest.raises(UserError, match=f"^extend: {key}: expected .* at least 0"):
            extension(*values)
    with pytest.raises(UserError, match="^extend: give trials, hours or epochs"):
        extension(None, None, None)


def test_extensions_add_up_and_make_no_limit_where_none_was():
    extensions = {"a": {"trials": 3}, "b": {"trials": 2, "epochs": 7}}
    assert extended(Budget(trials=10), extensions) == Budget(trials=15)
    assert extended(Budget(trials=10, epochs=50, hours=2), extensions) == Budget(trials=15, epochs=57, hours=2)
    assert extended(Budget(hours=1.5), {}) == Budget(hours=1.5)


def test_what_does_not_limit_a_search_cannot_be_extended(tmp_path):
    check_extension(Budget(trials=5), Command(wish="extend", trials=1), Place.of(tmp_path))
    with pytest.raises(UserError, match="--hours: .*is not limited by hours; it can be extended by --trials"):
        check_extension(Budget(trials=5), Command(wish="extend", hours=1), Place.of(tmp_path))
    with pytest.raises(UserError, match="a grid ends with its last point"):
        check_extension(Budget(), Command(wish="extend", trials=1), Place.of(tmp_path))
