import pytest

from hpa_search.models.matching import match

NETWORK = {
    "conv.weight": (8, 3, 3, 3),
    "bn.weight": (8,),
    "bn.bias": (8,),
    "bn.running_mean": (8,),
    "bn.running_var": (8,),
    "layer.0.weight": (4, 8),
}
OTHERS = ["_stem.weight", "_norm.weight", "_norm.bias", "_norm.running_mean", "_norm.running_var", "_last.weight"]


def renamed(names, shapes=NETWORK):
    return dict(zip(names, shapes.values(), strict=True))


@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "module.",
        "model.",
        "backbone.",
        "_orig_mod.module.",
        "model.backbone.",
        "net.",
        "module.encoder_q.",
        "teacher.backbone.",
    ],
)
def test_names_agree_less_their_prefixes_in_any_order(prefix):
    found = {prefix + name: shape for name, shape in reversed(NETWORK.items())}
    found[prefix + "bn.num_batches_tracked"] = ()
    found[prefix + "fc.weight"] = (1000, 4)
    assert match(found, NETWORK, ordered=False) == {name: prefix + name for name in NETWORK}


def test_modules_beside_the_backbone_of_a_trained_network_are_left_out():
    """Its head and further blocks may have names that are the backbone's as well."""
    found = {f"backbone.{name}": shape for name, shape in NETWORK.items()}
    found |= {"layer.0.weight": (9, 9), "input_stage.mean": (1, 4, 1, 1), "head.classifier.weight": (28, 4)}
    assert match(found, NETWORK) == {name: f"backbone.{name}" for name in NETWORK}


def test_a_prefix_that_is_the_networks_own_stays():
    wanted = {f"model.{name}": shape for name, shape in NETWORK.items()}
    assert match(wanted, wanted) == {name: name for name in wanted}


def test_tensors_follow_in_the_same_order():
    counted = {"_norm.num_batches_tracked": (), **renamed(OTHERS), "_fc.weight": (1000, 4), "_fc.bias": (1000,)}
    assert match(counted, NETWORK) == dict(zip(NETWORK, OTHERS, strict=True))
    assert match(renamed(OTHERS), NETWORK) == dict(zip(NETWORK, OTHERS, strict=True))


def test_the_classifier_may_stand_within_a_module_that_is_wanted():
    wanted = {"head.norm.weight": (8,), "head.norm.bias": (8,)}
    found = wanted | {"head.fc.weight": (1000, 8)}
    assert match(found, wanted, classifier="head.fc") == {name: name for name in wanted}
    with pytest.raises(ValueError, match="'head.fc.weight', which the network lacks"):
        match(found, wanted)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (NETWORK | {"bn.bias": (9,)}, r"'bn.bias' has shape \(9,\) in the file and \(8,\) in the network"),
        (NETWORK | {"layer.1.weight": (4, 8)}, "'layer.1.weight', which the network lacks: the file is of a larger model"),
        (
            {name: shape for name, shape in NETWORK.items() if name != "bn.bias"},
            "the network has 'bn.bias', which the file lacks",
        ),
        (
            renamed(OTHERS) | {"_norm.bias": (9,)},
            r"tensor 3 is '_norm.bias' \(9,\) in the file and 'bn.bias' \(8,\) in the network",
        ),
        (
            renamed([OTHERS[0], OTHERS[2], OTHERS[1], *OTHERS[3:]]),
            "tensor 2 is '_norm.bias' .* in the file and 'bn.weight' .* in the network",
        ),
        (dict(list(renamed(OTHERS).items())[:-1]), "the file ends after 5 tensors; the next of the network is 'layer.0.weight'"),
        (renamed(OTHERS) | {"_more.bias": (4,)}, "the network ends after 6 tensors; the next of the file is '_more.bias'"),
        ({}, "the file ends after 0 tensors"),
    ],
)
def test_the_first_difference_is_named_with_both_sides(found, message):
    with pytest.raises(ValueError, match=message):
        match(found, NETWORK)


def test_a_file_without_an_order_is_not_matched_by_order():
    with pytest.raises(ValueError, match="the network has 'conv.weight', which the file lacks; the file has '_stem.weight'"):
        match(renamed(OTHERS), NETWORK, ordered=False)
