import pytest
from pydantic import ValidationError

from hpa_search.config import TrialConfig


def test_the_defaults_are_a_configuration():
    config = TrialConfig()
    assert (config.input_size, config.gamma) == (224, None)
    assert TrialConfig.model_validate_json(config.model_dump_json()) == config


def test_focal_loss_takes_gamma_2_unless_told_otherwise():
    assert TrialConfig(loss="focal").gamma == 2.0
    assert TrialConfig(loss="focal", gamma=0.5).gamma == 0.5
    with pytest.raises(ValidationError, match="gamma belongs to loss 'focal'"):
        TrialConfig(loss="bce", gamma=2.0)


@pytest.mark.parametrize(("resolution", "size"), [("downsize", 64), ("gap", 128), ("extra_blocks", 128)])
def test_input_size_follows_the_strategy(resolution, size):
    assert TrialConfig(resolution=resolution, small_size=64, full_size=128).input_size == size


def test_small_size_counts_only_where_it_is_used():
    assert TrialConfig(resolution="gap", small_size=224, full_size=64).input_size == 64
    with pytest.raises(ValidationError, match="small_size 224 is larger than full_size 64"):
        TrialConfig(small_size=224, full_size=64)


@pytest.mark.parametrize(
    "values",
    [
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"dropout": 1.0},
        {"batch_size": 1},
        {"batch_size": 8.0},
        {"batch_size": True},
        {"dropout": "0.1"},
        {"full_size": 31},
        {"loss": "hinge"},
        {"channels": None},
        {"epochs": 3},
    ],
)
def test_a_value_out_of_range_or_of_another_type_is_refused(values):
    with pytest.raises(ValidationError, match=next(iter(values))):
        TrialConfig(**values)


def test_a_configuration_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        TrialConfig().dropout = 0.5
