import random
from pathlib import Path

import pytest

from hpa_search.errors import UserError
from hpa_search.search.reading import read_search
from hpa_search.search.suggestions import suggest
from hpa_search.space.parsing import parse_search
from hpa_search.space.search import Search
from hpa_search.training.check import check_trial

DEMO = Path(__file__).parents[2] / "search_spaces" / "demo.yaml"
HEAD = "name: toy\nbudget: {trials: 3}\n"
FOCAL = "space: {loss: {choice: [bce, focal]}, gamma: {range: [0.5, 3.0], when: {loss: focal}}}\n"


def parse(text) -> Search:
    return parse_search(text, "toy.yaml")


def message(text) -> str:
    with pytest.raises(UserError) as caught:
        parse(text)
    found = str(caught.value)
    assert all(line.startswith("toy.yaml") for line in found.splitlines())
    assert not any(
        jargon in found for jargon in ("Input should", "Value error", "validation error", "Field required", "pydantic", "dict")
    )
    assert len(found) < 1500
    return found


@pytest.fixture(scope="module")
def demo():
    return read_search(DEMO)[0]


def test_the_demo_says_what_it_says(demo):
    assert (demo.name, demo.seed, demo.budget.trials) == ("demo", 1, 16)
    assert list(demo.space)[:3] == ["backbone", "resolution", "channels"]
    assert demo.space["gamma"].when == {"loss": "focal"}
    assert read_search(DEMO)[1] == DEMO.read_text()


def test_numbers_are_those_of_yaml_1_2():
    search = parse(HEAD + "fixed: {dropout: .5, weight_decay: 0}\nspace: {learning_rate: {log_range: [1e-4, 5.e-3]}}\n")
    assert search.space["learning_rate"].bounds == (1e-4, 5e-3)
    assert search.trial_config({"learning_rate": 1e-3}).dropout == 0.5


@pytest.mark.parametrize(
    ("settings", "rungs"),
    [
        ("{min_epochs: 2, max_epochs: 18, eta: 3}", (2, 6, 18)),
        ("{min_epochs: 1, max_epochs: 10, eta: 3}", (1, 3, 9, 10)),
        ("{min_epochs: 5, max_epochs: 5}", (5,)),
        ("{kind: none, max_epochs: 7}", (7,)),
        ("{kind: stopping, max_epochs: 4, eta: 2}", (1, 2, 4)),
    ],
)
def test_rungs(settings, rungs):
    assert parse(f"{HEAD}scheduler: {settings}\n").rungs == rungs


def test_every_draw_is_a_configuration_that_works(demo):
    rng = random.Random(5)
    for _ in range(300):
        drawn = demo.draw(rng)
        check_trial(demo.trial_config(drawn))
        assert ("gamma" in drawn) == (drawn["loss"] == "focal")


def test_a_draw_takes_the_values_it_is_given_and_is_repeatable(demo):
    point = {"loss": "focal", "gamma": 2.5}
    assert demo.draw(random.Random(3), point).items() >= point.items()
    assert demo.draw(random.Random(3)) == demo.draw(random.Random(3))


def test_optuna_draws_from_the_same_dimensions(demo):
    drawn, distributions = suggest(demo, 0, [])
    assert set(drawn) == set(distributions) == set(demo.draw(random.Random(0), drawn))
    assert demo.draw(random.Random(0), drawn) == drawn
    for value, sizes in (("focal", 7), ("bce", 6)):
        drawn, _ = suggest(demo, 0, [], start_point={"loss": value})
        assert (drawn["loss"], len(drawn), "gamma" in drawn) == (value, sizes, value == "focal")
        demo.trial_config(drawn)


def test_integers_and_nested_conditions():
    search = parse(
        HEAD + "space:\n  loss: {choice: [bce, focal]}\n  channels: {choice: [rgb, g], when: {loss: [focal]}}\n"
        "  batch_size: {integer: [4, 8], when: {channels: g, loss: focal}}\n"
    )
    drawn = [search.draw(random.Random(seed)) for seed in range(100)]
    assert {len(values) for values in drawn} == {1, 2, 3}
    assert {values["batch_size"] for values in drawn if "batch_size" in values} == {4, 5, 6, 7, 8}
    assert all(values["loss"] == "focal" and values["channels"] == "g" for values in drawn if "batch_size" in values)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: a\nbudgte: {trials: 3}\n", "toy.yaml: budgte: unknown key; did you mean 'budget'?"),
        (HEAD + "budget2: 3\n", "did you mean 'budget'?"),
        (HEAD + "space: {learning_rat: {range: [0.1, 0.2]}}\n", "space.learning_rat: no setting of a trial has this name; did you mean 'learning_rate'?"),
        (HEAD + "fixed: {optimiser: adam}\n", "fixed.optimiser: no setting of a trial has this name; did you mean 'optimizer'?"),
        (HEAD + "scheduler: {max_epoch: 3}\n", "scheduler.max_epoch: unknown key; did you mean 'max_epochs'?"),
        (HEAD + FOCAL.replace("when", "whne"), "space.gamma.whne: unknown key; did you mean 'when'?"),
        (HEAD + FOCAL.replace("when: {loss", "when: {los"), "did you mean 'loss'?"),
        (HEAD + "space: {loss: {chioce: [bce]}}\n", "space.loss.chioce: unknown key; did you mean 'choice'?"),
        (HEAD + FOCAL + "start_points: [{los: bce}]\n", "start_points.0: 'los' is not a dimension of the space; did you mean 'loss'?"),
        (HEAD + "space: {backbone: {choice: [resnet18, resnt50]}}\n", "did you mean 'resnet50'?"),
        (HEAD + "objective: {zzz: 1}\n", "objective.zzz: unknown key; known are metric, min_positives"),
    ],
)  # fmt: skip
def test_an_unknown_key_is_named_with_the_nearest(text, words):
    assert words in message(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (HEAD + "space: {learning_rate: {range: [0.1, 20]}}\n", "space.learning_rate: expected a number above 0 and at most 1 (given: 20.0)"),
        (HEAD + "fixed: {dropout: 1}\n", "fixed.dropout: expected a number at least 0 and below 1 (given: 1)"),
        (HEAD + "fixed: {loss: focl}\n", "fixed.loss: expected one of 'bce', 'focal'"),
        (HEAD + "scheduler: {kind: promote}\n", "scheduler.kind: expected 'promotion', 'stopping' or 'none' (given: 'promote')"),
        (HEAD + "scheduler: {eta: 1}\n", "scheduler.eta: expected a whole number at least 2 and at most 100 (given: 1)"),
        (HEAD + "seed: -1\n", "seed: expected a whole number at least 0 and at most 2147483647 (given: -1)"),
        (HEAD + "split: {seed: 9999999999}\n", "split.seed: expected a whole number"),
        (HEAD + "resources: {slots: many}\n", "resources.slots: expected 'auto' or a whole number from 1 to 1000 (given: 'many')"),
        (HEAD + "resources: {slots: 0}\n", "resources.slots: expected 'auto' or a whole number from 1 to 1000 (given: 0)"),
        (HEAD + "resources: {gpus: 1.5}\n", "gpus: above 1, give a whole number (given: 1.5)"),
        (HEAD + "resources: {cpus: 1e300}\n", "resources.cpus: expected a number above 0 and at most 1024"),
        ("name: a\nbudget: {hours: 0}\n", "budget.hours: expected a number above 0 and at most 10000 (given: 0)"),
        ("name: a b\nbudget: {trials: 1}\n", "name: expected a name of 1 to 64 letters"),
        (HEAD + "scheduler: {min_epochs: 9, max_epochs: 3}\n", "scheduler: min_epochs 9 is above max_epochs 3"),
        (HEAD + "split: {train: 0.5}\n", "train + validation + test must be 1 (they are 0.8)"),
        (HEAD + "space: {dropout: {range: [0.5, 0.1]}}\n", "lower end 0.5 is above the upper end 0.1"),
        (HEAD + "space: {weight_decay: {log_range: [0, 0.1]}}\n", "must be above 0"),
        (HEAD + "space: {dropout: {choice: []}}\n", "space.dropout.choice: expected a list that is not empty"),
        (HEAD + "space: {dropout: {choice: [0, 0.0]}}\n", "two choices are equal"),
        (HEAD + "space: {dropout: {}}\n", "give exactly one of choice, range, log_range, integer (given: none)"),
        (HEAD + "space: {dropout: {choice: [0], range: [0, 0.1]}}\n", "(given: choice, range)"),
        (HEAD + "space: {batch_size: {log_range: [8, 64]}}\n", "space.batch_size: expected a whole number"),
        ("name: a\nbudget: {reserve: 0.1}\n", "give at least one of trials, hours, epochs"),
        (HEAD + "fixed: {loss: bce}\n" + FOCAL, "'loss' is both fixed and in the space"),
        (HEAD + FOCAL + "start_points: [{loss: focal, gamma: 9}]\n", "start_points.0.gamma: 9 is outside 0.5 to 3"),
        (HEAD + FOCAL + "start_points: [{loss: focal, gamma: true}]\n", "start_points.0.gamma: True is outside"),
        (HEAD + FOCAL + "start_points: [{loss: bse}]\n", "'bse' is not among the choices ['bce', 'focal']"),
        (HEAD + FOCAL + "start_points: [{loss: bce, gamma: 1}]\n", "gamma does not exist beside the point's other values"),
        (HEAD + "space: {batch_size: {integer: [2, 8]}}\nstart_points: [{batch_size: 2.5}]\n", "batch_size: expected a whole number"),
    ],
)  # fmt: skip
def test_a_value_out_of_range_is_named_with_what_is_allowed(text, words):
    assert words in message(text)


RATES = "space: {learning_rate: {log_range: [1.0e-4, 1.0e-2]}, dropout: {range: [0, 0.3]}, weight_decay: {choice: [0.1, 0.3]}}\n"


@pytest.mark.parametrize(
    ("point", "found"),
    [
        ("{learning_rate: 0.010000000000000002}", {"learning_rate": 1e-2}),
        ("{learning_rate: 9.999999999999999e-05}", {"learning_rate": 1e-4}),
        ("{dropout: -1.0e-18}", {"dropout": 0}),
        ("{dropout: 0.30000000000000004}", {"dropout": 0.3}),
        ("{weight_decay: 0.30000000000000004}", {"weight_decay": 0.3}),
        ("{learning_rate: 0.005, dropout: 0.3}", {"learning_rate": 0.005, "dropout": 0.3}),
    ],
)
def test_a_start_point_at_an_edge_stays_there_after_another_program_wrote_it(point, found):
    search = parse(HEAD + RATES + f"start_points: [{point}]\n")
    assert search.start_points == (found,)
    parameters, _ = suggest(search, 0, [], start_point=search.start_points[0])
    assert {name: parameters[name] for name in found} == found


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (RATES + "start_points: [{learning_rate: 0.0100001}]\n", "start_points.0.learning_rate: 0.0100001 is outside 0.0001 to 0.01"),
        (RATES + "start_points: [{dropout: -1.0e-6}]\n", "-1e-06 is outside 0 to 0.3"),
        (RATES + "start_points: [{weight_decay: 0.300001}]\n", "0.300001 is not among the choices [0.1, 0.3]"),
        ("space: {dropout: {range: [0, 0.123456789]}}\nstart_points: [{dropout: 0.123457}]\n", "0.123457 is outside 0 to 0.123456789"),
        ("split: {train: 0.7, validation: 0.15, test: 0.1521}\n", "must be 1 (they are 1.0021)"),
        ("split: {train: 0.33, validation: 0.33, test: 0.33}\n", "must be 1 (they are 0.99)"),
        ("resources: {gpus: 2.000001}\n", "gpus: above 1, give a whole number (given: 2.000001)"),
        ("fixed: {dropout: -1.0e-6}\n", "expected a number at least 0 and below 1 (given: -1e-06)"),
    ],
)  # fmt: skip
def test_beyond_rounding_the_digits_that_are_wrong_are_shown(text, words):
    assert words in message(HEAD + text)


@pytest.mark.parametrize(
    "split", ["0.7, 0.15, 0.15000001", "0.3333, 0.3333, 0.3333", "0.333, 0.333, 0.333", "0.1, 0.2, 0.7000000000000001", "0.8, 0.2, -1.0e-18"]
)  # fmt: skip
def test_shares_that_add_up_but_for_rounding_are_taken(split):
    train, validation, test = split.split(",")
    parse(HEAD + f"split: {{train: {train}, validation: {validation}, test: {test}}}\n")


def test_settings_at_their_bounds_are_taken():
    search = parse(
        "name: toy\nbudget: {hours: 10000.000000000002, reserve: -1.0e-18}\nresources: {gpus: 0.9999999999999999, workers: 2}\n"
        "space: {weight_decay: {range: [-1.0e-18, 1.0000000000000002]}}\n"
    )
    assert (search.budget.hours, search.budget.reserve, search.resources.gpus) == (10_000, 0, 1)
    assert parse(HEAD + "resources: {gpus: 2.0000000000000004}\n").resources.gpus == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (HEAD + "fixed: {gamma: 2.0}\nspace: {loss: {choice: [bce, asymmetric]}}\n", "fixed.gamma: the space has no loss beside which it exists; it belongs to loss 'focal'"),
        (HEAD + FOCAL.replace(", when: {loss: focal}", ""), "space.gamma: exists beside loss 'bce' too, where it has no meaning; it belongs to loss 'focal'"),
        (HEAD + "space: {gamma: {range: [1, 2], when: {loss: focal}}, loss: {choice: [focal]}}\n", "no dimension 'loss' stands above this one"),
        (HEAD + FOCAL.replace("loss: focal}", "loss: focl}"), "space.gamma.when.loss: 'focl' is not among its choices ['bce', 'focal']"),
        (HEAD + FOCAL.replace("loss: focal}", "loss: []}"), "space.gamma.when.loss: names no value"),
        (HEAD + "fixed: {backbone: capsnet, small_size: 224}\n", "the fixed settings cannot work: backbone: 'capsnet' does not work"),
        (HEAD + "fixed: {backbone: vit_tiny_patch16_224}\nspace: {resolution: {choice: [downsize, extra_blocks]}}\n", "cannot work, {'resolution': 'extra_blocks'}"),
        (HEAD + "fixed: {resolution: crop, crop_size: 300, full_size: 224}\n", "crop_size 300 is larger than full_size 224"),
    ],
)  # fmt: skip
def test_a_space_that_holds_what_cannot_work_is_refused(text, words):
    assert words in message(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: [a]\nbudget: [1]\n", "budget: expected a mapping with trials, hours, epochs, reserve (given: [1])"),
        ("name: a\nbudget: null\n", "budget: expected a mapping"),
        ("name: a\n", "budget: give at least one of trials, hours, epochs"),
        (HEAD + "space: 3\n", "space: expected a mapping (given: 3)"),
        (HEAD + "space:\n", "space: expected a mapping (given: None)"),
        (HEAD + "space: {loss: [bce]}\n", "space.loss: expected a mapping with choice, range"),
        (HEAD + "space: {loss: {choice: bce}}\n", "space.loss.choice: expected a list"),
        (HEAD + "space: {loss: {choice: [[bce]]}}\n", "space.loss.choice.0: expected text"),
        (HEAD + "space: {dropout: {range: [1, 2, 3]}}\n", "space.dropout.range: expected a list of 2 numbers (given: [1, 2, 3])"),
        (HEAD + "space: {dropout: {range: [0]}}\n", "space.dropout.range: expected a list of 2 numbers (given: [0])"),
        (HEAD + "space: {dropout: {range: 1}}\n", "space.dropout.range: expected a list of 2 numbers (given: 1)"),
        (HEAD + "space: {dropout: {range: [.nan, 0.5]}}\n", "space.dropout.range.0: expected a number (given: nan)"),
        (HEAD + "space: {batch_size: {integer: [2.5, 8]}}\n", "space.batch_size.integer.0: expected a whole number (given: 2.5)"),
        (HEAD + "start_points: {}\n", "start_points: expected a list (given: {})"),
        (HEAD + "start_points: [3]\n", "start_points.0: expected a mapping (given: 3)"),
        (HEAD + "fixed: {dropout: '0.5'}\n", "fixed.dropout: expected a number"),
        (HEAD + "fixed: {batch_size: true}\n", "fixed.batch_size: expected a whole number"),
        (HEAD + "fixed: {batch_size: null}\n", "fixed.batch_size: expected a whole number"),
        (HEAD + "fixed: {dropout: 1e999}\n", "fixed.dropout: expected"),
        ("name: a\nbudget: {trials: '3'}\n", "budget.trials: expected a whole number"),
        (HEAD + "final: {members: 0}\nobjective: {metric: f1}\n", "objective.metric: expected 'macro_ap', 'macro_f1' or 'macro_f1_at_half'"),
    ],
)  # fmt: skip
def test_a_value_of_the_wrong_type_is_one_line_that_says_what_is_expected(text, words):
    found = message(text)
    assert words in found
    assert len(found.splitlines()) <= 2


@pytest.mark.parametrize("seed", range(5))
def test_damaged_copies_of_the_demo_are_read_or_refused_and_nothing_else(seed):
    content = DEMO.read_bytes()
    for number in range(100):
        text = _damaged(content, random.Random(100 * seed + number)).decode("utf-8", errors="replace")
        try:
            assert isinstance(parse(text), Search)
        except UserError as error:
            assert str(error).startswith("toy.yaml")


def _damaged(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    kind = rng.randrange(4)
    if kind == 0:
        for _ in range(rng.randint(1, 4)):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
    elif kind == 1:
        del changed[rng.randrange(len(changed)) :]
    elif kind == 2:
        lines = content.splitlines(keepends=True)
        return b"".join(line for line in lines if rng.random() > 0.1)
    else:
        changed[rng.randrange(len(changed))] = rng.choice(b"{}[]:,&*!|>'\"%@`#-?\t\n<")
    return bytes(changed)


WIDE = """
name: wide
fixed: {backbone: test_resnet, small_size: 32, momentum: 0.8}
space:
  optimizer: {choice: [adam, sgd]}
  loss: {choice: [bce, focal, asymmetric]}
  gamma: {range: [1, 3], when: {loss: focal}}
  schedule: {choice: [constant, step, one_cycle], unless: {optimizer: sgd}}
  batch_size: {choice: [8, 16]}
exclude:
  - {optimizer: sgd, loss: [focal, asymmetric]}
  - {batch_size: 16, schedule: step}
budget: {trials: 3}
"""


def test_what_is_excluded_is_never_drawn():
    search = parse(WIDE)
    drawn = [search.draw(random.Random(seed)) for seed in range(300)]
    assert all(values["loss"] == "bce" for values in drawn if values["optimizer"] == "sgd")
    assert all(values["batch_size"] == 8 for values in drawn if values.get("schedule") == "step")
    assert {values["loss"] for values in drawn} == {"bce", "focal", "asymmetric"}


def test_a_dimension_may_exist_unless():
    search = parse(WIDE)
    drawn = [search.draw(random.Random(seed)) for seed in range(100)]
    assert all(("schedule" in values) == (values["optimizer"] == "adam") for values in drawn)


def test_a_fixed_setting_counts_only_where_it_exists():
    search = parse(WIDE)
    assert search.trial_config({"optimizer": "sgd", "loss": "bce", "batch_size": 8}).momentum == 0.8
    assert search.trial_config({"optimizer": "adam", "loss": "bce", "batch_size": 8}).momentum is None


def test_a_grid_has_every_point_that_is_not_excluded_once():
    text = WIDE.replace("budget: {trials: 3}", "sampler: grid").replace("{range: [1, 3], when", "{choice: [1.0, 3.0], when")
    search = parse(text)
    expected = [
        {"optimizer": "adam", "loss": loss, **gamma, "schedule": schedule, "batch_size": size}
        for loss, gamma in [("bce", {}), ("focal", {"gamma": 1.0}), ("focal", {"gamma": 3.0}), ("asymmetric", {})]
        for schedule in ("constant", "step", "one_cycle")
        for size in (8, 16)
        if (schedule, size) != ("step", 16)
    ] + [{"optimizer": "sgd", "loss": "bce", "batch_size": size} for size in (8, 16)]
    assert list(search.points) == expected
    assert search.most_trials == len(expected)
    assert parse(text + "budget: {trials: 5}\n").most_trials == 5


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (WIDE.replace("loss: [focal, asymmetric]}", "los: focal}"), "exclude.0: 'los' is not a dimension of the space; did you mean 'loss'?"),
        (WIDE.replace("batch_size: 16, ", "batch_size: 12, "), "exclude.1.batch_size: 12 is not among its choices [8, 16]"),
        (WIDE.replace("{batch_size: 16, schedule: step}", "{}"), "exclude.1: names no dimension"),
        (WIDE.replace("budget: {trials: 3}", "sampler: grid"), "space.gamma: a grid needs every dimension to be a choice"),
        (WIDE + "start_points: [{optimizer: sgd, loss: focal}]\n", "start_points.0: is excluded"),
        (WIDE.replace("when: {loss: focal}", "unless: {loss: bce}"), "space.gamma: exists beside loss 'asymmetric' too"),
        (WIDE.replace("fixed: {", "fixed: {gamma_negative: 3.0, hidden_size: 64, "), "fixed.hidden_size: exists beside head 'plain' too"),
        (WIDE + "labels: [3, 3]\n", "labels: a label is named twice"),
        (WIDE + "labels: [28]\n", "labels.0: expected a whole number at least 0 and below 28"),
        (WIDE + "labels: []\n", "labels: expected a list of label ids from 0 to 27"),
        (WIDE + "split: {folds: 5, fold: 5}\n", "split: fold 5 does not exist; the folds are numbered from 0 to 4"),
        (WIDE + "split: {fold: 1}\n", "split: fold 1 does not exist; give split.folds beside it"),
        (WIDE + "scheduler: {point_epochs: [3]}\n", "scheduler: point_epochs: belongs to kind 'none', which has no rungs (kind is 'promotion')"),
        (WIDE + "scheduler: {kind: none, point_epochs: [3, 28]}\n", "scheduler: point_epochs 28 is above max_epochs 27"),
        (WIDE + "scheduler: {kind: none, point_epochs: [3]}\n", "scheduler.point_epochs: 1 numbers for 0 start_points"),
        (WIDE + "scheduler: {kind: none, point_epochs: []}\n", "scheduler.point_epochs: expected a list of whole numbers from 1 to max_epochs"),
        (WIDE + "scheduler: {kind: none, point_epochs: 3}\n", "scheduler.point_epochs: expected a list of whole numbers from 1 to max_epochs"),
        (WIDE + "split: {folds: 5, train: 0.8}\n", "split: folds divide the rows outside test; leave out train"),
        (HEAD + "space: {small_size: {integer: [32, 64]}}\n", "space.small_size: give a choice"),
        (HEAD + "space: {loss: {choice: [bce]}}\nexclude: [{loss: bce}]\n", "exclude: 1000 draws in a row were excluded"),
        (HEAD + "fixed: {channels: rgx}\n", "fixed.channels: expected letters"),
        (HEAD + "fixed: {normalise: 0.5}\n", "fixed.normalise: expected text"),
        (HEAD + "fixed: {loss: focal_poster}\n", "did you mean 'focal_poster_literal'?"),
        (HEAD + "fixed: {backbone: gapnet_pl, resolution: extra_blocks}\n", "cannot work"),
        (HEAD + "fixed: {backbone: resnet18}\nspace: {small_size: {choice: [224, 32]}, head: {choice: [plain, avg_max]}, weights: {choice: [none, /x/y.pt]}}\n", ""),
    ],
)  # fmt: skip
def test_faults_of_the_wider_space_are_named(text, words):
    if words:
        assert words in message(text)
    else:
        parse(text)  # whether the file is there is the machine's matter, not the space's


def test_a_rare_combination_that_cannot_work_is_found_among_thousands():
    """One combination in several thousand is at fault: three hundred draws may well not meet it."""
    text = (
        HEAD
        + "fixed: {backbone: test_resnet, small_size: 32}\nspace:\n  channels: {choice: [r, g, b, rgb]}\n  head: {choice: [plain, hidden]}\n"
    )
    text += "  dropout: {choice: [0.0, 0.1, 0.2, 0.3]}\n  freeze: {choice: [none, head, last_block, stem_and_head]}\n"
    text += "  resolution: {choice: [downsize, gap, extra_blocks, crop]}\n  full_size: {choice: [64, 96, 128, 160]}\n"
    parse(text.replace(", crop]", "]"))
    bad = text + "  crop_size: {choice: [32, 48, 64, 96], when: {resolution: crop}}\n"
    assert "crop_size 96 is larger than full_size 64" in message(bad)
    parse(bad + "exclude: [{crop_size: 96, full_size: 64}]\n")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (HEAD + "fixed: {last_epochs: 27}\n", "last_epochs 27: leaves nothing of scheduler.max_epochs 27 before it"),
        (HEAD + "scheduler: {max_epochs: 3}\nspace: {last_epochs: {choice: [0, 3]}}\n", "last_epochs 3: leaves nothing"),
        (HEAD + FOCAL + "start_points: [{gamma: 2.0}]\n", "start_points.0: names gamma without loss, on which it depends"),
        (HEAD + "fixed: {backbone: coat_lite_tiny}\n", "layers share their weights"),
    ],
)  # fmt: skip
def test_what_a_trial_would_stumble_on_is_refused(text, words):
    assert words in message(text)
