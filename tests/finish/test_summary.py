from pathlib import Path

import pytest

from hpa_search.finish.summary import summary
from hpa_search.scoring.measured import Member, Snapshot
from tests.scoring.measurements import HALF, VERDICT, class_score, measured_search, nested

OUT = Path("/searches/first")


def lines(**changes):
    return summary(OUT, measured_search(**changes))


def test_it_says_what_came_out_where_it_is_and_what_to_type_next():
    found = lines(submission=7)
    assert found[0] == "Ensemble of 2: trial 3 epoch 9 x 0.75, trial 1 epoch 4 x 0.25"
    assert found[1] == "Test macro F1 (10 images that nothing was chosen on):"
    assert found[2] == "  ensemble            0.5000 [0.4500, 0.5500] 90%"
    assert found[3] == "  best single trial   0.4800 [0.4300, 0.5300] 90%  (trial 3)"
    assert found[4] == "  the ensemble is     not distinguishable (+0.0200 [-0.0100, +0.0500] 90%)"
    assert found[5] == "  predict everything  0.1000  (the floor)"
    assert "Submission: /searches/first/submission.csv" in found
    assert found[-1].startswith("Next: hpa-search predict /searches/first/bundle IMAGES")
    assert not any(line.startswith("Submission") for line in lines())


def test_the_nested_estimate_stands_with_what_is_wrong_with_it():
    text = "\n".join(lines(nested=nested(networks=3)))
    assert "Nested estimate on 100 rows: 0.5200 [0.4700, 0.5700] 90%" in text and "which flatters the estimate" in text
    assert "chosen and measured on the same rows it would be 0.5500 (optimism +0.0300)" in text
    assert "  2 of the 28 labels have no positive" in text and "the bundle averages 3" in text
    assert "No nested estimate: the validation rows are all of one group." in lines(nested=None)


def test_without_test_rows_the_nested_estimate_is_the_number():
    text = "\n".join(lines(test=None))
    assert "Test macro F1" not in text and "No test split: the nested estimate is the number to go by." in text


def test_searches_are_named_where_there_are_several():
    members = (Member(Snapshot("first", 3, 9), 0.5), Member(Snapshot("rare", 1, 4), 0.5))
    found = lines(members=members, labels=(8, 9), tta="mean")
    assert found[0].endswith("rare trial 1 epoch 4 x 0.50, each the mean over eight views of an image")
    assert found[1].startswith("Test macro F1 over the 2 labels 8, 9 alone") and "(first trial 3)" in found[3]


def test_the_runner_up_is_compared_with_the_best():
    assert any(line.startswith("Trial 3 against the runner-up, trial 1,") and "not distinguishable" in line for line in lines())
    assert not any("runner-up" in line for line in lines(runner_up=None))


@pytest.mark.parametrize(("rare", "words"), [(2, "Labels 0, 1 have"), (7, "Labels 0, 1, 2, 3, 4 and 2 more have")])
def test_labels_that_cannot_be_judged_are_named(rare, words):
    classes = tuple(class_score(label, verdict=VERDICT if label < rare else "") for label in range(28))
    assert any(line.startswith(words) for line in lines(nested=nested(classes=classes)))


def test_images_that_reached_no_threshold_are_counted():
    test = measured_search().test
    filled = type(test)(HALF, HALF, HALF, 0.1, 4, test.classes)
    assert any(line.startswith("  4 images were below all thresholds") for line in lines(test=filled))
