import re
import sys
from pathlib import Path

import pytest

from hpa_search.models.freezing import FREEZES
from hpa_search.models.heads import HEADS
from hpa_search.models.weights import STEMS
from hpa_search.registry import Registry, register_all, summary
from hpa_search.scoring.ensemble import SELECTIONS
from hpa_search.scoring.rules import RULES
from hpa_search.training.check import NAMED

SETTINGS = (Path(__file__).parents[1] / "search_spaces" / "README.md").read_text(encoding="utf-8")


def make() -> Registry[int]:
    registry: Registry[int] = Registry("loss")
    registry.register("bce", about="cross-entropy")(1)
    registry.register("focal", about="hard examples first")(2)
    return registry


def test_what_is_registered_is_found():
    assert make()["focal"] == 2
    assert make().fault("focal") == ""


def test_an_unknown_name_is_refused_with_the_setting_the_names_and_the_nearest():
    with pytest.raises(ValueError, match=r"loss: expected one of 'bce', 'focal' \(given: 'focl'\); did you mean 'focal'\?"):
        make()["focl"]


def test_a_name_is_registered_once():
    with pytest.raises(AssertionError, match="twice"):
        make().register("bce")(3)


def test_a_line_about_an_entry_is_given_or_comes_from_its_docstring():
    registry = make()

    @registry.register("soft")
    def _soft() -> None:
        """Return the soft F1.

        More of it.
        """

    assert registry.about == {"bce": "cross-entropy", "focal": "hard examples first", "soft": "return the soft F1"}


@pytest.mark.parametrize("line", ["ReLU", "S2's grid", ""])
def test_a_phrase_keeps_its_own_capitals(line):
    def entry() -> None: ...

    entry.__doc__ = line
    assert summary(entry) == line


def test_a_phrase_begins_small():
    def entry() -> None:
        """A symmetry, then a shift."""

    assert summary(entry) == "a symmetry, then a shift"


def test_a_new_module_of_a_package_registers_itself(tmp_path, monkeypatch):
    package = tmp_path / "rules_of_a_test"
    package.mkdir()
    (package / "__init__.py").write_text("ORDER = []")
    for name in ("a", "b", "c"):
        (package / f"{name}.py").write_text(f"from rules_of_a_test import ORDER; ORDER.append('{name}')")
    monkeypatch.syspath_prepend(tmp_path)
    register_all("rules_of_a_test", [str(package)], first="b")
    assert sys.modules["rules_of_a_test"].ORDER == ["b", "a", "c"]


@pytest.mark.parametrize("setting", [name for name in NAMED if not name.startswith("last_")])
def test_the_table_of_settings_lists_every_name(setting):
    (values,) = re.findall(rf"^\| `{setting}` \| ([^|]*)\|", SETTINGS, re.MULTILINE)
    assert set(NAMED[setting]) <= set(re.findall(r"`([^`]+)`", values))


@pytest.mark.parametrize("registry", [SELECTIONS, RULES], ids=lambda registry: registry.setting)
def test_the_text_about_the_final_stage_lists_every_name(registry):
    (text,) = re.findall(r"^\*\*final\*\*:.*?\n\n", SETTINGS, re.MULTILINE | re.DOTALL)
    assert set(registry) <= set(re.findall(r"`([^`]+)`", text))


@pytest.mark.parametrize("registry", [HEADS, FREEZES, STEMS, SELECTIONS, RULES], ids=lambda registry: registry.setting)
def test_every_entry_has_a_line_about_it(registry):
    assert list(registry.about) == list(registry)
    assert all(registry.about.values())
