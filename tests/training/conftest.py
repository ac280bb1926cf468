import pytest

from tests.training.trial import finish, make_trainer


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    """A trial that nobody stopped, in its folder, with its history."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, finish(make_trainer(folder)).history
