import re

from hpa_search.bundle.card import write_card
from hpa_search.labels import LABELS
from tests.scoring.measurements import HALF, VERDICT, class_score, measured_search, nested


def card_of(bundle, manifest, measured) -> str:
    write_card(bundle, manifest, measured)
    return (bundle / "MODEL_CARD.md").read_text()


def test_the_card_names_every_label_and_member(export):
    bundle, manifest = export()
    classes = tuple(class_score(label, verdict=VERDICT if label == 8 else "") for label in range(28))
    card = card_of(bundle, manifest, measured_search(nested=nested(classes=classes, networks=5)))
    assert all(f"| {name} | 5 | 2 | 0." in card for name in LABELS)
    assert f"| 8 | {LABELS[8]} | 5 | 2 | 0.3370 | 0.600 (0.400 to 0.800) | 0.500 (0.450 to 0.550) | {VERDICT} |" in card
    assert "| tiny | 1 | 4 | 0.25 | test_resnet | gap | 48 | g | bce | all labels |" in card


def test_the_card_gives_every_number_with_its_rows_and_its_interval(export):
    card = card_of(*export(), measured_search(nested=nested(networks=5)))
    assert "- Test macro F1: 0.5000 [0.4500, 0.5500] 90%, on 10 images that nothing was chosen on." in card
    assert "- Best single trial, same rows: 0.4800 [0.4300, 0.5300] 90%." in card
    assert "- Predicting every label on every image: 0.1000." in card
    assert "- Nested estimate on 100 rows: 0.5200 [0.4700, 0.5700] 90%." in card and "which flatters the estimate." in card
    assert "2 of the 28 labels" in card and "averages 5." in card
    assert "which chose everything: 0.5500 (optimism +0.0300)." in card
    assert "| plug_in | 0.5200 |\n| exact | 0.4321 |" in card
    assert re.search(r"\| uniform: the best 3 .* \| 0\.5000 \[.*\| better \(\+0\.0200", card)


def test_labels_that_were_not_trained_for_and_numbers_that_are_not_there_are_left_out(export):
    card = card_of(
        *export(), measured_search(labels=(8, 9), test=None, nested=nested(classes=(class_score(8), class_score(9)), absent=()))
    )
    assert "Test macro F1" not in card and "with 2 protein locations" in card
    assert "Nested estimate on 100 rows over the 2 labels 8, 9 alone" in card
    assert f"| 7 | {LABELS[7]} | 5 | 2 | 0.3074 |  |  |  |" in card
    bare = card_of(*export(), measured_search(nested=None))
    assert "Nested estimate" not in bare and "## Choices" not in bare and f"{HALF.value:.4f}" in bare
