"""Several processes that train a trial together, by gloo, and the trials that they train in tests."""

import json
import os

import torch
import torch.distributed as dist
import torch.multiprocessing

from hpa_search.config import TrialConfig
from hpa_search.training.ranks import ALONE, joined_ranks, lost_another
from tests.training.trial import EPOCHS, make_data, make_trainer

SEVENTEEN = 17
"""Rows of a batch: an odd number, of which two workers have parts of different lengths."""

COMMON = {
    "small_size": 32,
    "full_size": 32,
    "batch_size": SEVENTEEN,
    "channels": "rgby",
    "optimizer": "sgd",
    "learning_rate": 0.05,
}
BATCH_NORM, NO_BATCH_NORM = {**COMMON, "backbone": "test_resnet"}, {**COMMON, "backbone": "test_convnext"}


def data_for(config):
    """Return data of whose 53 training rows the last batch has 2: with three workers each has all of it."""
    return make_data(rows=53 + 32, size=config.input_size)


def train(folder, settings, ranks=ALONE, epochs=EPOCHS, **further):
    config = TrialConfig(**settings)
    trainer = make_trainer(folder, config, data=data_for(config), ranks=ranks, **further)
    return [trainer.run_epoch() for _ in range(trainer.epoch, epochs)]


def in_a_group(rank, world, folder, work):
    """Be rank ``rank`` of a group and do ``work``; what it returns is left in a file. At last, lose the others."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder / 'address'}", rank=rank, world_size=world)
    ranks = joined_ranks()
    result = work(ranks, folder)
    (folder / f"rank-{rank}.json").write_text(json.dumps(result))
    if ranks.first:
        (folder / "lost.json").write_text(json.dumps(errors_of_one_left_alone(ranks)))
    os._exit(0)


def errors_of_one_left_alone(ranks):
    """Say whether what is raised when the others are gone says so."""
    found = []
    for talk in (lambda: ranks.gather(torch.zeros(1, 2), ranks.world), lambda: ranks.require_alike("nothing", 1)):
        try:
            talk()
        except Exception as error:
            found.append(lost_another(error))
    return found


def together(folder, work, world=2):
    """Return what ``work(ranks, folder)`` gives in each of ``world`` processes."""
    torch.multiprocessing.spawn(in_a_group, (world, folder, work), nprocs=world)
    return [json.loads((folder / f"rank-{rank}.json").read_text()) for rank in range(world)]
