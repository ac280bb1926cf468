from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit

from hpa_search.scoring.appraisal import RARE, appraise
from hpa_search.scoring.final import FinalChoice
from hpa_search.scoring.intervals import bootstrap_interval, paired_difference
from hpa_search.scoring.metrics import f1_per_class, macro_f1
from hpa_search.scoring.rules import RULES, UNSEEN

pytestmark = pytest.mark.long

CLASSES = 8
CHOICE = FinalChoice(bags=2)


def make(noises=(2, 3), rows=240, seed=0):
    """Labels (n, 8), of the last classes in 3, 1 and 0 rows, and a member for each noise: logits (m, n, 8)."""
    rng = np.random.default_rng(seed)
    labels = rng.random((rows, CLASSES)) < [0.4, 0.3, 0.2, 0.1, 0.1, 0, 0, 0]
    labels[[3, 40, 90], 5] = True
    labels[7, 6] = True
    labels[~labels.any(axis=1), 0] = True
    members = [3.0 * (2 * labels - 1) + noise * rng.normal(size=labels.shape) - 1 for noise in noises]
    return np.stack(members).astype(np.float32), labels


def test_everything_is_of_the_honest_predictions():
    members, labels = make()
    found = appraise(CHOICE, members, labels)
    predicted = found.estimate.predicted
    whole = CHOICE(members, labels)
    np.testing.assert_array_equal(found.ensemble.weights, whole.weights)
    np.testing.assert_array_equal(found.ensemble.rule.thresholds, whole.rule.thresholds)
    assert found.estimate.naive == macro_f1(whole(members), labels)
    assert found.interval == bootstrap_interval(predicted, labels)
    assert found.interval.value == found.estimate.honest
    f1 = f1_per_class(predicted, labels)
    for place, score in enumerate(found.classes):
        assert (score.label, score.positives, score.claimed) == (place, labels[:, place].sum(), predicted[:, place].sum())
        assert score.f1.value == f1[place] and 0 <= score.f1.low <= score.f1.high <= 1
        assert score.threshold == whole.rule.thresholds[place]


def test_the_other_ways_are_nested_alike_and_compared_in_pairs():
    members, labels = make((2, 2, 6))
    found = appraise(CHOICE, members, labels)
    single = appraise(replace(CHOICE, ensemble="single"), members, labels)
    assert found.ways["single"] == single.interval == single.ways["single"]
    expected = paired_difference(found.estimate.predicted, single.estimate.predicted, labels)
    assert found.differences["single"] == expected
    assert (single.differences["single"].low, single.differences["single"].high) == (0, 0)
    assert found.differences["uniform"].value == pytest.approx(found.interval.value - found.ways["uniform"].value)


def test_every_rule_is_refitted_in_folds():
    members, labels = make((2,))
    found = appraise(CHOICE, members, labels)
    assert set(found.rules) == set(RULES)
    for name, f1 in found.rules.items():
        # With one member there is nothing to choose but the rule.
        assert f1 == appraise(replace(CHOICE, thresholds=name), members, labels).estimate.honest


def test_rows_that_were_filled_are_those_below_every_threshold():
    members, labels = make((4,))
    # One map for all rows: then a row is below all thresholds of the rule `half` where every score is negative.
    found = appraise(replace(CHOICE, thresholds="half"), members, labels)
    filled = found.estimate.predicted.sum(axis=1) == 1
    assert 5 < found.filled <= filled.sum() < 240


def test_progress_counts_folds_and_members_are_made_once_for_all_selections():
    members, labels = make()
    told, made_of = [], []

    class Counting(FinalChoice):
        def standardised(self, member_logits, labels):
            made_of.append(len(labels))
            return super().standardised(member_logits, labels)

    appraise(Counting(ensemble="single"), members, labels, folds=3, tell=lambda *done: told.append(done))
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert sorted(made_of) == [160] * 3 + [240]


def test_what_cannot_be_judged_is_said():
    members, labels = make()
    verdicts = [score.verdict for score in appraise(CHOICE, members, labels).classes]
    assert verdicts[:5] == [""] * 5
    assert RARE == 5
    assert verdicts[5] == "too rare to judge: 3 positives; F1 and threshold are guesses"
    assert verdicts[6] == "too rare to judge: 1 positive; F1 and threshold are guesses"
    assert verdicts[7] == "no positives here: F1 counts as 0; threshold from the classes together"
    exact = appraise(replace(CHOICE, thresholds="exact"), members, labels).classes[7]
    assert exact.verdict.endswith("threshold from the rule's convention") and exact.threshold == 0.5
    unseen = appraise(replace(CHOICE, trained=tuple(range(7))), members, labels).classes[7]
    assert "no positives here or in training" in unseen.verdict and unseen.threshold >= UNSEEN


def test_a_class_without_a_member_is_never_given_and_says_so():
    members, labels = make()
    covers = np.ones((2, CLASSES), dtype=bool)
    covers[:, 2] = False
    found = appraise(replace(CHOICE, covers=covers), members, labels)
    assert found.classes[2].verdict == "no member was trained for it: never given"
    assert found.classes[2].claimed == 0


def test_some_classes_alone():
    members, labels = make()
    found = appraise(CHOICE, members, labels, scored=[0, 3])
    mask = appraise(CHOICE, members, labels, scored=np.arange(CLASSES) % 3 == 0)
    assert [score.label for score in found.classes] == [0, 3]
    assert [score.label for score in mask.classes] == [0, 3, 6]
    assert found.interval.value == found.estimate.honest == macro_f1(found.estimate.predicted[:, [0, 3]], labels[:, [0, 3]])


def test_groups_share_a_fold_and_widen_the_intervals():
    members, labels = (np.repeat(array, 4, axis=axis) for array, axis in zip(make(rows=100), (1, 0), strict=True))
    groups = [f"g{row // 4}" for row in range(400)]
    # Without the class that has no positives, which widens both.
    torn, whole = (appraise(CHOICE, members, labels, groups=one, scored=list(range(CLASSES - 1))) for one in (None, groups))
    assert whole.interval.high - whole.interval.low > 1.5 * (torn.interval.high - torn.interval.low)
    # Copies of one row get one label, whichever fold they are in.
    assert (whole.estimate.predicted.reshape(100, 4, CLASSES).std(axis=1) == 0).all()


def test_only_the_best_of_many_are_looked_at():
    members, labels = make((6, 2, 8, 3))
    weights = replace(CHOICE, pool=2)(members, labels).weights
    assert set(np.flatnonzero(weights)) <= {1, 3}
    equal = replace(CHOICE, pool=2, ensemble="uniform")(members, labels).weights
    assert equal.tolist() == [0, 0.5, 0, 0.5]
    best = replace(CHOICE, max_members=1, ensemble="uniform")(members, labels).weights
    assert best.tolist() == [0, 1, 0, 0]


@pytest.mark.parametrize("change", ["constant", "tied", "huge", "half"])
def test_odd_members(change):
    members, labels = make()
    if change == "constant":
        members[1] = 0.25
    elif change == "tied":
        members = np.log(expit(members).round(1).clip(0.05, 0.95))
    elif change == "huge":
        members[1] *= 1e4
    else:
        members = members.astype(np.float16)
    found = appraise(CHOICE, members, labels)
    assert np.isfinite(found.interval.value) and found.estimate.honest > 0.4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"labels": np.ones((239, CLASSES))}, "239"),
        ({"member_logits": np.full((1, 240, CLASSES), np.nan)}, "NaN"),
        ({"groups": [0] * 240}, "folds must lie between"),
        ({"folds": 1}, "folds must lie between"),
        ({"choice": FinalChoice(ensemble="best")}, "ensemble: expected one of"),
        ({"choice": FinalChoice(thresholds="best")}, "thresholds: expected one of"),
    ],
)
def test_wrong_input_is_refused(arguments, words):
    members, labels = make((2,))
    given = {"choice": CHOICE, "member_logits": members, "labels": labels, **arguments}
    with pytest.raises(ValueError, match=words):
        appraise(given.pop("choice"), given.pop("member_logits"), given.pop("labels"), **given)
