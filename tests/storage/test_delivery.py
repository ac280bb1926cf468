import pytest

from hpa_search.errors import UserError
from hpa_search.storage.delivery import OUTPUTS, delivered
from hpa_search.storage.place import Place
from hpa_search.storage.store import Store


def test_a_local_file_is_written_in_its_place(tmp_path):
    with delivered(tmp_path / "a.csv", tmp_path / "cache") as path:
        assert path == tmp_path / "a.csv"
    assert not (tmp_path / "cache").exists()


def test_a_remote_file_is_delivered_in_the_end_and_what_was_begun_is_kept(bucket, tmp_path):
    place = bucket / "results/a.csv"
    with pytest.raises(KeyboardInterrupt), delivered(place, tmp_path) as path:
        assert path.name == "a.csv"
        (path.parent / ".a.csv.parts").mkdir()
        (path.parent / ".a.csv.parts/1").write_text("half of it")
        raise KeyboardInterrupt
    assert Store(bucket).list() == {}
    with delivered(place, tmp_path) as path:
        assert (path.parent / ".a.csv.parts/1").read_text() == "half of it"
        path.write_text("whole")
    assert Store(bucket).read("results/a.csv") == b"whole" and Store(bucket).list().keys() == {"results/a.csv"}
    assert [one.name for one in (tmp_path / OUTPUTS).iterdir() if one.is_dir()] == []


def test_a_place_that_cannot_be_written_is_refused_before_the_work(s3, tmp_path):
    with pytest.raises(UserError, match="no bucket 'nowhere'"), delivered(Place.of("s3://nowhere/a.csv"), tmp_path):
        pytest.fail("the work began")


def test_messages_name_the_place(bucket, tmp_path):
    with pytest.raises(UserError, match=f"^{bucket}/a.csv: too long$"), delivered(bucket / "a.csv", tmp_path) as path:
        raise UserError(f"{path}: too long")
