"""What the tests of the search share: a search over one learning rate, and its ledger in a folder of its own."""

import pytest

from hpa_search.search.reading import parse_search
from hpa_search.search.space import Search

TEXT = """
name: toy
space:
  learning_rate: {{log_range: [1.0e-4, 1.0e-1]}}
budget: {budget}
scheduler: {{kind: {kind}, min_epochs: 1, max_epochs: 9, eta: 3}}
resources: {{slots: 2, cpus: 0.5, gpus: 0}}
final: {{members: {members}}}
seed: {seed}
"""


@pytest.fixture(scope="session")
def make_search():
    def make(budget="{trials: 12}", kind="promotion", members=3, seed=0):
        return parse_search(TEXT.format(budget=budget, kind=kind, members=members, seed=seed), "toy.yaml")

    return make


@pytest.fixture(scope="session")
def make_pointed(make_search):
    """Return a function that makes a search of start points, each trained for epochs of its own."""

    def make(epochs=(3, 9, 1, 5)):
        points = [{"learning_rate": 0.001 * (number + 1)} for number in range(len(epochs))]
        scheduler = {"kind": "none", "max_epochs": 9, "point_epochs": tuple(epochs)}
        budget = {"trials": len(epochs)}
        changes = {"start_points": tuple(points), "scheduler": scheduler, "budget": budget, "sampler": "random"}
        return Search.model_validate({**make_search().model_dump(), **changes})

    return make
