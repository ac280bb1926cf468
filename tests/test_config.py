import pytest
from pydantic import ValidationError

from hpa_search.config import CONDITIONS, TrialConfig
from hpa_search.training.check import check_value


def test_the_defaults_are_a_configuration():
    config = TrialConfig()
    assert (config.input_size, config.gamma) == (224, None)
    assert TrialConfig.model_validate_json(config.model_dump_json()) == config


def test_focal_loss_has_gamma_2_by_default():
    assert TrialConfig(loss="focal").gamma == 2.0
    assert TrialConfig(loss="focal", gamma=0.5).gamma == 0.5
    with pytest.raises(ValidationError, match="gamma belongs to loss 'focal'"):
        TrialConfig(loss="bce", gamma=2.0)


@pytest.mark.parametrize(("resolution", "size"), [("downsize", 64), ("gap", 128), ("extra_blocks", 128)])
def test_input_size_follows_the_strategy(resolution, size):
    assert TrialConfig(resolution=resolution, small_size=64, full_size=128).input_size == size


def test_crops_are_cut_out_of_the_full_size():
    config = TrialConfig(resolution="crop", full_size=768, crop_size=512)
    assert (config.input_size, config.network_size) == (768, 512)
    assert TrialConfig(full_size=768).network_size == 224
    with pytest.raises(ValidationError, match="crop_size 384 is larger than full_size 256"):
        TrialConfig(resolution="crop", full_size=256)


@pytest.mark.parametrize("name", CONDITIONS)
def test_a_setting_that_depends_on_another_has_a_default_there_and_does_not_exist_elsewhere(name):
    when, field = CONDITIONS[name], TrialConfig.model_fields[CONDITIONS[name].parent]
    beside = list(when.defaults or {}) or [{"none": "x", 0: 1}[when.unless]]
    for value in beside:
        assert getattr(TrialConfig(**{when.parent: value}), name) == when.default(value)
    assert not when.holds(field.default)
    value = next((default for default in map(when.default, beside) if default is not None), 3)
    with pytest.raises(ValidationError, match=f"{name} is set but {when.parent} is {field.default!r}; {name} belongs to"):
        TrialConfig(**{name: value})


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
        {"loss": 3},
        {"resolution": "upsize"},
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


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("learning_rate", 1.0000000000000002, 1),
        ("weight_decay", -1e-18, 0),
        ("dropout", -1e-18, 0),
        ("warmup_epochs", 100.00000000001, 100),
    ],
)
def test_a_setting_that_rounding_moved_beyond_its_bound_is_at_the_bound(name, value, found):
    assert getattr(TrialConfig(**{name: value}), name) == found
    assert getattr(TrialConfig.model_validate_json(f'{{"{name}": {value!r}}}'), name) == found
    check_value(f"fixed.{name}", name, value)


@pytest.mark.parametrize(
    ("name", "value"), [("learning_rate", 1.0000001), ("weight_decay", -1e-6), ("dropout", 1.0000000000000002)]
)
def test_beyond_rounding_a_setting_is_refused_with_all_its_digits(name, value):
    with pytest.raises(ValidationError):
        TrialConfig(**{name: value})
    with pytest.raises(ValueError, match=rf"fixed.{name}: expected a number .* \(given: {value!r}\)"):
        check_value(f"fixed.{name}", name, value)
