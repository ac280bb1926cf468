import pytest

from hpa_search.system_files import is_system_file, is_users_file


@pytest.mark.parametrize(
    "name",
    [
        *("lost+found", ".DS_Store", ".snapshot", ".nfs000000000123", ".Trash-1000", ".ipynb_checkpoints", "._search.yaml"),
        *("$RECYCLE.BIN", "System Volume Information", "Thumbs.db", "desktop.ini", "FOUND.000", "a.csv:Zone.Identifier"),
        *("@eaDir", "#recycle", "@Recycle", "#snapshot", "~snapshot", "Icon\r", "__MACOSX", "aquota.user", ".stfolder"),
    ],
)
def test_what_the_system_leaves_is_nobody_s_work(name):
    assert is_system_file(name) and not is_users_file(name)


@pytest.mark.parametrize("name", ["search.yaml", "lost", "found", "results", "train", "FOUND.txt", "thesis.tex", "tmp", "@home"])
def test_what_is_somebody_s_work(name):
    assert not is_system_file(name) and is_users_file(name)


@pytest.mark.parametrize("name", [".git", ".hg", ".svn"])
def test_a_repository_is_hidden_and_somebody_s_work(name):
    assert is_system_file(name) and is_users_file(name)
