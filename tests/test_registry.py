import pytest

from hpa_search.registry import Registry


def make() -> Registry[int]:
    registry: Registry[int] = Registry("loss")
    registry.register("bce")(1)
    registry.register("focal")(2)
    return registry


def test_what_is_registered_is_found():
    assert make()["focal"] == 2
    assert make().fault("focal") == ""


def test_an_unknown_name_is_told_with_the_setting_the_names_and_the_nearest():
    with pytest.raises(ValueError, match=r"loss: expected one of 'bce', 'focal' \(given: 'focl'\); did you mean 'focal'\?"):
        make()["focl"]


def test_a_name_is_registered_once():
    with pytest.raises(AssertionError, match="twice"):
        make().register("bce")(3)
