import numpy as np

from hpa_search.figures.predictions import Predictions
from hpa_search.labels import LABELS, NUM_LABELS, to_vector


def of(*rows):
    """Return predictions from (true labels, {predicted label: probability}) of each row."""
    probabilities = np.full((len(rows), NUM_LABELS), 0.01)
    for row, (_, said) in enumerate(rows):
        for label, chance in said.items():
            probabilities[row, label] = chance
    ids = tuple(f"image{row}" for row in range(len(rows)))
    labels = np.stack([to_vector(true) for true, _ in rows])
    return Predictions(ids, labels, probabilities, probabilities > 0.5)


def test_a_label_missed_where_another_was_said_is_a_confusion():
    found = of(((0,), {25: 0.9}), ((0, 2), {0: 0.8, 25: 0.6}), ((3,), {3: 0.7}), ((0,), {}))
    counts = found.confused
    assert counts[0, 25] == 1 and counts[2, 25] == 1 and counts.sum() == 2


def test_the_most_confident_mistakes_come_first():
    found = of(((3,), {3: 0.9}), ((0,), {0: 0.8, 25: 0.7}), ((0,), {0: 0.2}), ((1,), {1: 0.4, 2: 0.99}))
    assert found.worst().tolist() == [3, 2, 1]
    assert found.worst(1).tolist() == [3]


def test_labels_are_named_and_long_lists_cut():
    found = of(((0, 25), {label: 0.6 + label / 100 for label in range(7)}))
    true, said = found.in_words(0, LABELS)
    assert true == "Nucleoplasm, Cytosol"
    assert said.startswith("Endoplasmic reticulum (0.66), Nuclear bodies (0.65)") and said.endswith("and 3 more")
