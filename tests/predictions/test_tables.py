import csv
import io

from hpa_search.predictions.tables import class_rows, headline, last_lines, summary, to_csv
from tests.scoring.measurements import BETTER, UNCLEAR, WORSE, measured, nested


def test_csv_is_read_back():
    rows = [{"name": 'Rods & "rings", x', "value": 0.123456789, "count": 3}]
    assert list(csv.reader(io.StringIO(to_csv(rows)))) == [["name", "value", "count"], ['Rods & "rings", x', "0.123457", "3"]]


def test_the_headline_says_how_good_the_ensemble_is():
    lines = headline(measured())
    assert lines[0] == "Ensemble of 2 of 3: a|b x 0.60, c x 0.40"
    assert lines[1] == "Nested macro F1: 0.5200 [0.4700, 0.5700] 90%, over all 28 labels, 100 rows"
    assert "2 of the 28 labels have no positive" in lines[2] and "0.9286" in lines[2] and "0.5600" in lines[2]
    assert "0.5500 (optimism +0.0300)" in lines[3]
    assert "not distinguishable (+0.0200 [-0.0100, +0.0500] 90%)" in lines[4]
    for difference, word in ((BETTER, "better"), (WORSE, "worse")):
        differences = {"single": difference, "uniform": UNCLEAR}
        assert f": {word} (" in headline(measured(nested=nested(differences=differences)))[4]


def test_every_label_is_a_row_with_its_calibration():
    rows = class_rows(measured())
    assert [row["id"] for row in rows] == list(range(28)) and rows[27]["name"] == "Rods & rings"
    assert (rows[27]["slope"], rows[27]["offset"], rows[0]["F1"], rows[8]["positives"]) == (2.0, 1.0, 0.6, 0)


def test_the_page_has_its_tables_whatever_the_names():
    page = summary(measured(), [{"model": "a|b", "weight": 0.6}], [{"id": 0, "F1": 0.25, "verdict": ""}])
    assert "| a\\|b | 0.6000 |" in page
    assert page.index("| plug_in | 0.5200 |") < page.index("| exact | 0.4321 |")
    assert "| uniform: the best 3 with equal weights | 0.5000 [0.4500, 0.5500] 90% | better" in page


def test_the_last_line_says_what_to_type_next(tmp_path):
    assert last_lines(tmp_path, measured())[-1] == (
        f"Next: hpa-search ensemble --apply {tmp_path} --predictions OTHER --out labels.csv"
    )
