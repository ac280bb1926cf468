import pytest

from hpa_search.config import TrialConfig
from hpa_search.training.stages import stage_of

S2 = TrialConfig(
    loss="focal",
    gamma=1.0,
    schedule="plateau",
    warmup_epochs=2.0,
    last_epochs=2,
    last_freeze="last_block",
    last_learning_rate=1e-4,
)


def test_without_settings_there_is_one_stage():
    config = TrialConfig()
    for epoch in (1, 5, 9):
        stage = stage_of(config, epoch, 9)
        assert (stage.config, stage.freeze, stage.epoch, stage.epochs) == (config, "none", epoch, 9)


def test_frozen_layers_are_freed_after_their_epochs():
    config = TrialConfig(freeze="stem_and_head", freeze_epochs=3)
    assert [stage_of(config, epoch, 6).freeze for epoch in range(1, 7)] == ["stem_and_head"] * 3 + ["none"] * 3


def test_frozen_layers_stay_so_without_a_number_of_epochs():
    config = TrialConfig(freeze="head")
    assert {stage_of(config, epoch, 6).freeze for epoch in range(1, 7)} == {"head"}


def test_the_last_epochs_of_the_top_rung_are_the_second_stage():
    stages = [stage_of(S2, epoch, 5) for epoch in range(1, 6)]
    assert [(stage.config.loss, stage.freeze, stage.epoch, stage.epochs) for stage in stages] == [
        *[("focal", "none", epoch, 3) for epoch in (1, 2, 3)],
        *[("soft_f1", "last_block", epoch, 2) for epoch in (1, 2)],
    ]
    last = stages[-1].config
    assert (last.learning_rate, last.schedule, last.warmup_epochs, last.gamma) == (1e-4, "constant", 0, None)
    assert last.batch_size == S2.batch_size


def test_the_second_loss_has_its_own_defaults():
    config = TrialConfig(loss="focal", gamma=1.0, last_epochs=1, last_loss="asymmetric")
    last = stage_of(config, 3, 3).config
    assert (last.loss, last.gamma, last.gamma_negative) == ("asymmetric", None, 4.0)


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_short_top_rung_is_all_second_stage(epochs):
    stage = stage_of(S2, 1, epochs)
    assert (stage.config.loss, stage.epoch, stage.epochs) == ("soft_f1", 1, epochs)
