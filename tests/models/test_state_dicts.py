import pytest
import torch

from hpa_search.models.state_dicts import KNOWN, find_state

STATE = {f"layer{number}.weight": torch.full((2,), float(number)) for number in range(20)}
OTHER = {name: tensor + 1 for name, tensor in STATE.items()}
ADAM = {"state": {0: {"step": torch.zeros(()), "exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 0.1}]}


@pytest.mark.parametrize("name", [*KNOWN, "generator", "my_weights", "D-net", "0"])
def test_the_only_state_dict_is_found_under_any_name(name):
    checkpoint = {"epoch": 3, "optimizer": ADAM, "scheduler": {"last": 1}, "note": "x", name: STATE}
    assert find_state(checkpoint) is not None
    torch.testing.assert_close(find_state(checkpoint), STATE)


@pytest.mark.parametrize(
    "content",
    [
        STATE,
        {**STATE, "epoch": 3},
        {"model": {"state_dict": STATE}, "epoch": 1},
        {"ema": {"module": {"net": STATE}}},
        [STATE],
        (STATE, {"lr": 0.1}),
        {"state_dict": STATE, "rng_state": torch.zeros(5), "dino_loss": {"center": torch.zeros(1)}},
        {"net": STATE, "optimizer_G": {"weights": OTHER}, "grad_scaler": OTHER},
    ],
)
def test_usual_wrappings_are_opened(content):
    found = find_state(content)
    torch.testing.assert_close({name: found[name] for name in STATE}, STATE)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("state_dict_ema", "state_dict"),
        ("params_ema", "params"),
        ("teacher", "student"),
        ("encoder", "decoder"),
        ("net", "extra"),
    ],
)
def test_of_several_the_known_order_decides(first, second):
    torch.testing.assert_close(find_state({second: OTHER, first: STATE}), STATE)


def test_a_few_tensors_among_much_else_are_taken_where_there_is_nothing_better():
    found = find_state({"weight": torch.ones(2), "epoch": 1, "lr": 0.1, "note": "x"})
    assert list(found) == ["weight"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"epoch": 3, "best": 0.5}, "holds no named weights: its keys are 'epoch', 'best'"),
        ({str(number): number for number in range(12)}, "'9' and 2 more"),
        ({}, "an empty mapping"),
        ([torch.zeros(2)] * 7, "it is a list of 7 tensors without names; save the model's state_dict"),
        ((torch.zeros(2),), "it is a tuple of 1 tensors without names"),
        (torch.zeros(2), "it is of type Tensor"),
        (3, "it is of type int"),
        ({0: torch.zeros(2)}, "its keys are 0"),
        ({"optimizer": ADAM, "epoch": 1}, "its keys are 'optimizer', 'epoch'"),
        ({"G": STATE, "D": OTHER}, "holds several sets of weights: 'G', 'D'; save the intended one alone"),
    ],
)
def test_no_weights_or_several_sets_are_refused_with_their_keys(content, message):
    with pytest.raises(ValueError, match=message):
        find_state(content)


def test_a_mapping_within_itself_comes_to_an_end():
    content: dict = {"epoch": 1}
    content["model"] = content
    with pytest.raises(ValueError, match="holds no named weights"):
        find_state(content)
