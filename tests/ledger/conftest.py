import pytest

from hpa_search.ledger.ledger import Ledger
from hpa_search.ledger.study_place import choose_study


@pytest.fixture(params=["journal", "sqlite", "postgresql"])
def ledger(tmp_path, request):
    """A ledger in each kind of storage; `Ledger.open` finds it by its folder alone."""
    if request.param == "sqlite":
        choose_study(tmp_path, f"sqlite:///{tmp_path}/study.db", "toy")
    elif request.param == "postgresql":
        choose_study(tmp_path, request.getfixturevalue("postgres_url"), "toy")
    return Ledger.create(tmp_path, "toy")
