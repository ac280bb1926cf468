"""run, finish, compare and tensorboard: what is refused before anything is trained."""


def test_a_run_needs_a_search_file_and_a_dataset(hpa, phantom, space, tmp_path):
    missing, out = tmp_path / "missing", tmp_path / "new"
    assert str(missing) in hpa("run", missing, "--data", phantom, "--out", out, code=2)
    assert str(missing) in hpa("run", space, "--data", missing, "--out", out, code=2)
    assert not out.exists()


def test_a_local_ray_lacks_some_variables(hpa, phantom, tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_SOMETHING", "1")
    said = hpa("run", tmp_path / "missing", "--data", phantom, "--out", tmp_path / "new", code=2)
    assert "The local Ray does not see these variables: RAY_SOMETHING\n" in said


def test_finish_leaves_out_a_trial_without_files(hpa, out):
    before = sorted(out.rglob("*"))
    assert "Trial 0 is left out: " in hpa("finish", out, code=2)
    assert sorted(out.rglob("*")) == before


def test_a_comparison_needs_a_search(hpa, tmp_path):
    assert "no search here" in hpa("compare", tmp_path, code=2)


def test_tensorboard_needs_something_to_show(hpa, out):
    assert "nothing to show" in hpa("tensorboard", out, code=2)
    assert "--port" in hpa("tensorboard", out, "--port", 0, code=2)
