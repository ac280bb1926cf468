import csv
import io

from hpa_search.predictions.tables import headline, summary, to_csv

INTERVAL = {"value": 0.5, "low": 0.45, "high": 0.55, "level": 0.9}
RESULT = {
    "macro_f1": 0.52, "low": 0.47, "high": 0.57, "level": 0.9, "naive": 0.55, "optimism": 0.03, "classes_absent": [8, 27], "macro_f1_present": 0.56, "rows": 100, "groups": None,
    "folds": 5, "models": 3, "members": {"a|b": 0.6, "c": 0.4}, "ensemble": "greedy", "thresholds": "plug_in", "max_members": 5,
    "filled": 2, "best_single": INTERVAL, "difference_to_best_single": {"value": 0.02, "low": -0.01, "high": 0.05, "level": 0.9},
    "uniform": INTERVAL, "difference_to_uniform": {"value": 0.02, "low": 0.01, "high": 0.03, "level": 0.9},
    "rules": {"exact": 0.5, "plug_in": 0.52},
}  # fmt: skip


def test_csv_is_read_back():
    rows = [{"name": 'Rods & "rings", x', "value": 0.123456789, "count": 3}]
    assert list(csv.reader(io.StringIO(to_csv(rows)))) == [["name", "value", "count"], ['Rods & "rings", x', "0.123457", "3"]]


def test_the_headline_tells_whether_the_winner_is_one():
    lines = headline(RESULT)
    assert lines[0] == "Ensemble of 2 of 3: a|b x 0.60, c x 0.40"
    assert lines[1].startswith("Honest macro F1: 0.5200 [0.4700, 0.5700] 90%")
    assert "2 classes have no positive" in lines[2] and "0.9286" in lines[2] and "0.5600" in lines[2]
    assert "0.5500 (optimism +0.0300)" in lines[3]
    assert "not distinguishable (+0.0200 [-0.0100, +0.0500])" in lines[4]
    for low, high, word in ((0.01, 0.05, "better"), (-0.05, -0.01, "worse")):
        lines = headline({**RESULT, "difference_to_best_single": {"value": 0.0, "low": low, "high": high, "level": 0.9}})
        assert f": {word} (" in lines[4]


def test_the_page_has_its_tables_whatever_the_names():
    page = summary(RESULT, [{"model": "a|b", "weight": 0.6}], [{"id": 0, "F1": 0.25, "verdict": ""}])
    assert "| a\\|b | 0.6000 |" in page
    assert page.index("| plug_in | 0.5200 |") < page.index("| exact | 0.5000 |")
    assert "| the best 3 with equal weights | 0.5000 | 0.4500 to 0.5500 | better" in page
