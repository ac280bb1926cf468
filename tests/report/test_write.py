"""The report says what the study and result.json say, and nothing else."""

import csv
import json
import re
import shutil
from html.parser import HTMLParser

import pytest

from hpa_search.errors import UserError
from hpa_search.ledger.ledger import Ledger
from hpa_search.report.facts import read_facts
from hpa_search.report.page import Page, Picture, Section, Table, Text
from hpa_search.report.write import make_page, write_report
from hpa_search.storage.opened import WorkingCopy
from tests.report.conftest import FAILED

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def facts(finished):
    return read_facts(WorkingCopy.of(finished / "out"), finished / "cache")


@pytest.fixture(scope="module")
def page(facts):
    return make_page(facts)


@pytest.fixture(scope="module")
def result(finished):
    return json.loads((finished / "out/result.json").read_text())


@pytest.fixture(scope="module")
def trials(finished):
    return {trial.number: trial for trial in Ledger.open(finished / "out").trials()}


def section(page, title):
    (found,) = [section for section in page.sections if section.title == title]
    return found


def tables(page, title):
    return [
        [dict(zip(block.columns, row, strict=True)) for row in block.rows]
        for block in section(page, title).blocks
        if isinstance(block, Table)
    ]


def test_the_answer_is_that_of_the_test_rows(page, result):
    first = page.sections[0].blocks[0]
    assert isinstance(first, Text) and first.lead
    assert first.text == "Macro F1 {value:.4f}, 90 % interval {low:.4f} to {high:.4f}".format(**result["test"]["ensemble"])
    (members,) = tables(page, "The answer")
    assert [(int(row["trial"]), int(row["epoch"]), float(row["weight"])) for row in members] == [
        (one["trial"], one["epoch"], round(one["weight"], 2)) for one in result["members"]
    ]


def test_the_leaderboard_is_the_study_s(page, trials, finished):
    rows, settings = tables(page, "Leaderboard")
    reported = {number: trial.reports for number, trial in trials.items() if trial.reports}
    assert [int(row["trial"]) for row in rows] == sorted(reported, key=lambda number: (-max(reported[number].values()), number))
    for row in rows:
        number = int(row["trial"])
        best = max(reported[number], key=lambda epoch: (reported[number][epoch], -epoch))
        assert float(row["best macro_ap"]) == pytest.approx(reported[number][best], abs=5e-5)
        assert (int(row["at epoch"]), int(row["epochs"])) == (best, max(reported[number]))
        with (finished / f"out/trials/{number:04d}/metrics.csv").open(newline="") as file:
            at_best = next(line for line in csv.DictReader(file) if int(line["epoch"]) == best)
        assert float(row["macro F1"]) == pytest.approx(float(at_best["macro_f1"]), abs=5e-5)
        value, low, high = map(float, re.findall(r"[\d.]+", row["macro AP and its 90 % interval"]))
        assert value == pytest.approx(float(at_best["macro_ap"]), abs=1e-3) and low < value < high

    assert len(rows) == 8 and [line["parameter"] for line in settings] == ["learning_rate", "channels", "loss", "gamma"]
    for line in settings:
        for number in reported:
            value = trials[number].parameters.get(line["parameter"], "")
            assert line[f"trial {number}"] == (f"{value:.3g}" if isinstance(value, float) else value)


def test_the_classes_are_those_of_the_final_stage(page, result):
    (rows,) = tables(page, "Classes")
    assert len(rows) == len(result["classes"]) == 28
    for row, score in zip(rows, result["classes"], strict=True):
        label = score["label"]
        assert row["label"].startswith(f"{label} ")
        assert [int(row[part]) for part in ("train", "validation", "test")] == [
            result["positives"][part][label] for part in ("train", "validation", "test")
        ]
        assert float(row["F1, nested"].split()[0]) == pytest.approx(score["f1"]["value"], abs=5e-4)
        assert float(row["F1, test"].split()[0]) == pytest.approx(result["test"]["classes"][label]["value"], abs=5e-4)


def test_the_cost_is_the_sum_of_the_epochs(page, trials, facts):
    states, whole = tables(page, "Cost")
    assert states[-1]["state"] == "all" and int(states[-1]["trials"]) == len(trials)
    assert int(states[-1]["epochs"]) == sum(trial.epochs for trial in trials.values())
    assert sum(int(row["epochs"]) for row in states[:-1]) == int(states[-1]["epochs"])
    assert {row["state"] for row in states[:-1]} == {trial.end for trial in trials.values()}
    assert {row["what"]: row["value"] for row in whole}["state"] == "finished"
    seconds = sum(row["seconds"] for trial in facts.trials for row in trial.metrics)
    assert float(states[-1]["slot hours in epochs"]) == pytest.approx(seconds / 3600, abs=0.005)


def test_what_the_parameters_explain_adds_up(facts):
    shares = [one.share for one in facts.importances]
    assert shares and sum(shares) == pytest.approx(1) and shares == sorted(shares, reverse=True)


def test_mistakes_are_the_images_and_labels_of_the_predictions(page, facts):
    found = facts.predictions
    assert found.part == "test" and len(found.ids) == facts.split_sizes["test"]
    (gallery,) = [block for block in section(page, "The worst mistakes").blocks if hasattr(block, "pictures")]
    assert len(gallery.pictures) == 12
    for picture in gallery.pictures:
        row = found.ids.index(picture.caption.split(":")[0])
        assert (found.labels[row] != found.predicted[row]).any()
        assert all(facts.labels[label] in picture.alt for label in found.labels[row].nonzero()[0])


def test_one_html_file_needs_no_network_and_holds_all_pictures(finished, tmp_path):
    write_report(finished / "out", finished / "cache", to=tmp_path / "report.html")
    links = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag, attrs):
            links.extend(value for name, value in attrs if name in ("src", "href"))

    text = (tmp_path / "report.html").read_text()
    Reader().feed(text)
    assert sum(link.startswith("data:image/") for link in links) >= 17
    assert all(link.startswith(("data:", "#")) for link in links)
    assert "out of memory" in text and "url(" not in text


def test_markdown_has_its_pictures_beside_it(finished, tmp_path):
    place = write_report(finished / "out", finished / "cache", markdown=True, to=tmp_path / "report")
    assert place == str(tmp_path / "report")
    text = (tmp_path / "report/README.md").read_text()
    named = set(re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text))
    assert named == {path.name for path in (tmp_path / "report").iterdir()} - {"README.md"} and len(named) >= 17
    assert "| --- |" not in text.split("## Leaderboard")[0].split("\n\n")[0]
    write_report(finished / "out", finished / "cache", markdown=True, to=tmp_path / "again")
    for name in {*named, "README.md"}:
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "report" / name).read_bytes()


def test_before_the_final_stage_it_says_that_the_number_is_no_result(finished, tmp_path):
    out = shutil.copytree(finished / "out", tmp_path / "out")
    (out / "result.json").unlink()
    write_report(out, finished / "cache")
    text = (out / "report.html").read_text()
    assert "No final stage yet. Best macro_ap so far" in text and "This number chose the trial" in text


def test_without_its_images_the_rest_is_told(finished, tmp_path):
    place = write_report(finished / "out", finished / "cache", data=tmp_path, to=tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert place == str(tmp_path / "report.html")
    assert "The images were not found at" in text and "Macro F1" in text


def test_no_search_is_a_message(tmp_path):
    with pytest.raises(UserError, match="no search here"):
        write_report(tmp_path, tmp_path / "cache")


def test_text_of_people_is_escaped(tmp_path):
    page = Page("<b>x</b>", "a|b", (Section("T & T", (Table("c", ("<i>",), (("a|b\nc",),)),)), Section("empty", ())))
    page.write_html(tmp_path / "page.html")
    page.write_markdown(tmp_path / "md")
    text = (tmp_path / "page.html").read_text()
    assert "<b>x" not in text and "&lt;b&gt;x" in text and "empty" not in text
    assert "| a\\|b c |" in (tmp_path / "md/README.md").read_text()


def test_a_picture_is_in_the_page_as_it_is():
    picture = Picture("p", b"<svg/>", "c", "a")
    assert picture.data == "data:image/svg+xml;base64,PHN2Zy8+" and picture.file == "p.svg"


def test_the_failed_trial_is_told(page):
    advice = section(page, "What to try next").blocks[0]
    assert any("1 of 9 trials failed, the last with: out of memory" in point for point in advice.points)
    assert FAILED not in [int(row["trial"]) for row in tables(page, "Leaderboard")[0]]
