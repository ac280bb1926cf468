import pytest

from hpa_search.bundle.card import write_card
from hpa_search.labels import LABELS


@pytest.mark.parametrize("with_test", [True, False])
def test_the_card_names_every_class_and_member(export, with_test):
    bundle, manifest = export()
    interval = {"value": 0.5, "low": 0.4, "high": 0.6, "level": 0.9}
    test = {"ensemble": interval, "best_single": interval, "floor": 0.1, "classes": [interval] * 28}
    verdict = "too rare to judge"
    result = {
        "labels": list(range(28)) if with_test else [8, 9],
        "rows": {"test": 7},
        "positives": {"validation": [1] * 28, "test": [2] * 28},
        "final": {"ensemble": "greedy", "thresholds": "plug_in"},
        "classes": [{"label": 8, "f1": interval, "verdict": verdict}],
        "nested": {
            **interval,
            "naive": 0.6,
            "optimism": 0.1,
            "networks": 5,
            "classes_absent": [1, 2, 3],
            "macro_f1_present": 0.55,
            "ways": {"uniform": interval},
            "differences": {"uniform": interval},
            "rules": {"exact": 0.4321},
        },
        "test": test if with_test else None,
    }
    write_card(bundle, manifest, result)
    card = (bundle / "MODEL_CARD.md").read_text()
    assert all(label in card for label in LABELS)
    assert "which flatters it" in card and "3 of the" in card and "averages 5" in card
    assert verdict in card and "exact | 0.4321" in card and "uniform | 0.5000" in card
    assert ("Test macro F1" in card) is with_test
    assert ("over the labels 8, 9 alone" in card) is not with_test
    assert "all labels" in card
    assert "test_resnet | gap | 48 | g" in card
