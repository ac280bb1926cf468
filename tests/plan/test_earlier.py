"""What earlier searches took is remembered for trials of the same shape on the same device."""

import pytest

from hpa_search.config import TrialConfig
from hpa_search.ledger.ledger import TrialRecord
from hpa_search.plan.earlier import FILE, MOST_KEPT, Earlier, epoch_like, recall, remember
from hpa_search.plan.plan import make_plan
from hpa_search.plan.probe import Probed
from hpa_search.plan.simulate import Cost
from hpa_search.space.parsing import parse_search

SPACE = """
name: past
fixed: {batch_size: 16}
space: {backbone: {choice: [resnet18, resnet34]}}
budget: {trials: 4}
scheduler: {kind: none, max_epochs: 2}
"""


@pytest.fixture
def search():
    return parse_search(SPACE, "past.yaml")


def ended(out, number, backbone, seconds):
    folder = out / f"trials/{number:04d}"
    folder.mkdir(parents=True)
    lines = [f"{epoch},{value}" for epoch, value in enumerate(seconds, start=1)]
    (folder / "metrics.csv").write_text("\n".join(["epoch,seconds", *lines]) + "\n")
    (folder / "device.txt").write_text("cpu, one thread\n")
    return TrialRecord(number, {"backbone": backbone}, 2, {}, "complete", "done")


def test_epochs_are_remembered_by_row_and_told_for_other_rows(search, tmp_path):
    trials = [ended(tmp_path, 0, "resnet18", [9.0, 4.0, 4.0]), ended(tmp_path, 1, "resnet34", [10.0])]
    (tmp_path / "trials/0002").mkdir()
    trials.append(TrialRecord(2, {"backbone": "resnet18"}, 2, {}, "failed", "no memory"))
    remember(tmp_path / "cache", tmp_path, search, trials, 100)
    earlier = recall(tmp_path / "cache")
    config = search.trial_config({"backbone": "resnet18"})
    assert epoch_like(earlier, config, "cpu, one thread", 200) == pytest.approx(8.0)
    assert epoch_like(earlier, search.trial_config({"backbone": "resnet34"}), "cpu, one thread", 100) == pytest.approx(10.0)
    assert epoch_like(earlier, config, "cuda:0", 200) is None
    assert epoch_like(earlier, TrialConfig(backbone="resnet50"), "cpu, one thread", 200) is None


def test_old_lines_go_and_strange_ones_are_left_out(search, tmp_path):
    cache = tmp_path / "cache"
    assert recall(cache) == ()
    cache.mkdir()
    (cache / FILE).write_text("not json\n{}\n" + '{"config": {"unknown": 1}, "device": "", "seconds_per_row": 1}\n' * MOST_KEPT)
    remember(cache, tmp_path, search, [ended(tmp_path, 0, "resnet18", [1.0, 2.0])], 100)
    assert len((cache / FILE).read_text().splitlines()) == MOST_KEPT and len(recall(cache)) == 1


def test_a_plan_takes_what_was_seen_before_what_was_probed(search):
    probed = tuple(Probed(search.trial_config({"backbone": name}), Cost(epoch=1.0), "cpu") for name in ("resnet18", "resnet34"))
    earlier = [Earlier(one.config, "cpu", 0.05) for one in probed]
    assert make_plan(search, 1, probed).simulated.seconds == pytest.approx(8.0)
    assert make_plan(search, 1, probed, earlier, rows=100).simulated.seconds == pytest.approx(8 * 5.0)
