import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hpa_search.models.channels import MIXES, SMALLEST_STD, InputStage, parse_channels, parse_normalisation

MEAN, STD = [0.1, 0.2, 0.3, 0.4], [0.5, 0.25, 0.2, 0.1]
STAINS = "rgby"
WINNERS = "0.0746 0.0506 0.0509 0.0763 / 0.1228 0.0857 0.1299 0.1194"


def some_images(size=5):
    return torch.randint(0, 256, (2, 4, size, size), dtype=torch.uint8)


@pytest.mark.parametrize("channels", ["rgby", "rgb", "g", "bgr", "yg"])
def test_selects_and_normalises_by_hand(channels):
    images = some_images()
    result = InputStage(channels, "dataset", MEAN, STD)(images)
    assert result.dtype == torch.float32
    assert result.shape == (2, len(channels), 5, 5)
    for position, letter in enumerate(channels):
        source = STAINS.index(letter)
        expected = (images[:, source].double() / 255 - MEAN[source]) / STD[source]
        torch.testing.assert_close(result[:, position].double(), expected, atol=1e-5, rtol=1e-5)


@given(st.permutations(STAINS), st.integers(1, 4))
def test_any_subset_in_any_order_is_a_selection(letters, count):
    text = "".join(letters[:count])
    assert parse_channels(text).selection == tuple(STAINS.index(letter) for letter in text)


def test_the_mixes_are_those_of_the_report():
    """S2's formulas, domain.md F8 and F9, written out."""
    images = torch.rand(2, 4, 3, 3)
    red, green, blue, yellow = images.unbind(1)
    mix_a = InputStage("mix_a", "0 / 1", MEAN, STD)(images)
    torch.testing.assert_close(mix_a, torch.stack([red / 2 + yellow / 2, green / 2 + yellow / 2, blue], dim=1))
    mix_b = InputStage("mix_b", "0 / 1", MEAN, STD)(images)
    torch.testing.assert_close(mix_b, torch.stack([red / 2 + blue / 2, yellow / 2 + blue / 2, green], dim=1))


def test_stains_are_normalised_before_they_are_mixed():
    images = some_images()
    result = InputStage("1 0 0 0; 0 0.5 0 2", "dataset", MEAN, STD)(images)
    stains = (images.double() / 255 - torch.tensor(MEAN).view(1, 4, 1, 1)) / torch.tensor(STD).view(1, 4, 1, 1)
    expected = torch.stack([stains[:, 0], 0.5 * stains[:, 1] + 2 * stains[:, 3]], dim=1)
    torch.testing.assert_close(result.double(), expected, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("channels", MIXES)
def test_with_one_constant_and_rows_that_sum_to_one_the_order_makes_no_difference(channels):
    images = some_images()
    mixed_after = InputStage(channels, "0.3 / 0.2", MEAN, STD)(images)
    mixed_before = (InputStage(channels, "0 / 1", MEAN, STD)(images) - 0.3) / 0.2
    torch.testing.assert_close(mixed_after, mixed_before, atol=1e-5, rtol=1e-5)
    uneven = f"{WINNERS.split('/')[0]} / 0.2"
    first = InputStage(channels, uneven, MEAN, STD)(images)
    assert not torch.allclose(first, (InputStage(channels, "0 / 1", MEAN, STD)(images) - 0.3) / 0.2, atol=1e-2)


def test_a_matrix_of_single_stains_is_the_selection():
    images = some_images()
    torch.testing.assert_close(
        InputStage("0 0 1 0; 1 0 0 0", "dataset", MEAN, STD)(images), InputStage("br", "dataset", MEAN, STD)(images)
    )
    assert parse_channels("0 0 1 0; 1 0 0 0").selection == (2, 0)


def test_a_learned_mixture_starts_at_mix_b_and_learns():
    stage = InputStage("learned", "dataset", MEAN, STD)
    images = some_images()
    torch.testing.assert_close(stage(images), InputStage("mix_b", "dataset", MEAN, STD)(images))
    assert [tuple(weight.shape) for weight in stage.parameters()] == [(3, 4, 1, 1)]
    stage(images).square().sum().backward()
    assert all(weight.grad.abs().sum() > 0 for weight in stage.parameters())
    assert list(InputStage("mix_b", "dataset", MEAN, STD).parameters()) == []


def test_mixtures_keep_float32_under_autocast():
    images = some_images()
    for channels in ("mix_a", "learned"):
        stage = InputStage(channels, "dataset", MEAN, STD)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mixed = stage(images)
        assert mixed.dtype == torch.float32
        torch.testing.assert_close(mixed, stage(images))


@pytest.mark.parametrize("channels", ["rgby", "gy", "mix_a"])
@pytest.mark.parametrize("normalise", ["dataset", "image", "0.5 / 0.5"])
def test_float_images_are_in_units_of_one(channels, normalise):
    images = some_images()
    stage = InputStage(channels, normalise, MEAN, STD)
    torch.testing.assert_close(stage(images), stage(images.float() / 255), atol=1e-5, rtol=1e-5)


def test_an_image_of_its_own_units_has_mean_0_and_deviation_1():
    images = some_images(16)
    images[0] //= 4
    result = InputStage("rgby", "image", MEAN, STD)(images)
    torch.testing.assert_close(result.mean((2, 3)), torch.zeros(2, 4), atol=1e-5, rtol=0)
    torch.testing.assert_close(result.std((2, 3), correction=0), torch.ones(2, 4), atol=1e-4, rtol=0)


def test_given_constants_are_used_whatever_the_dataset_has():
    images = some_images()
    constant = InputStage("gy", WINNERS, MEAN, STD)
    expected = InputStage("gy", "dataset", [0.0746, 0.0506, 0.0509, 0.0763], [0.1228, 0.0857, 0.1299, 0.1194])
    torch.testing.assert_close(constant(images), expected(images))
    assert constant.mean.flatten().tolist() == pytest.approx([0.0506, 0.0763])


def test_statistics_travel_with_the_weights():
    for channels, count in (("rgb", 3), ("mix_b", 4)):
        state = InputStage(channels, "dataset", MEAN, STD).state_dict()
        other = InputStage(channels, "dataset", [0.0] * 4, [1.0] * 4)
        other.load_state_dict(state)
        assert other.mean.flatten().tolist() == pytest.approx(MEAN[:count])


def test_an_empty_stain_stays_finite():
    images = torch.zeros(1, 4, 2, 2, dtype=torch.uint8)
    assert InputStage("rgby", "dataset", [0.0] * 4, [0.0] * 4)(images).isfinite().all()
    images[:, 0, 0, 0] = 1  # one grey value: no more than SMALLEST_STD allows
    assert InputStage("rgby", "image", MEAN, STD)(images).abs().max() < 1 / 255 / SMALLEST_STD


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected letters"),
        ("rgbr", "'r' is repeated"),
        ("rgx", "expected letters"),
        ("mix_c", "did you mean 'mix_"),
        ("0.5 0 0", "row 1 needs a number for each"),
        ("1 0 0 0; 0 1 0 0 0", r"row 2 needs .* \(given: 5\)"),
        ("1 0 0 0; 0 0 0 0", "row 2 is all zeros"),
        ("1 0 0 0;", "row 2 needs"),
        ("1 0 0 nan; 1 1 1 1", "row 1: expected finite"),
        ("1 0 0 a; 1 1 1 1", "row 1: expected numbers"),
        (";".join(["1 0 0 0"] * 17), "at most 16"),
    ],
)
def test_channels_that_mean_nothing_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse_channels(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("datset", "did you mean 'dataset'"),
        ("0.5", "MEAN / STD"),
        ("127.5 / 127.5", "units of 0..1, not 0..255"),
        ("0.5 / 0", "at least"),
        ("0.5 0.5 / 0.5", "one for each stain"),
        ("/ 0.5", "mean needs one number"),
        ("0.5 / 0.5 / 0.5", "expected numbers"),
        ("inf / 1", "finite"),
    ],
)
def test_normalisations_that_mean_nothing_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse_normalisation(text)


@pytest.mark.parametrize(("mean", "std"), [([0.1] * 3, [0.1] * 4), ([0.1] * 4, [0.1, 0.1, -0.1, 0.1])])
def test_wrong_statistics_are_refused(mean, std):
    with pytest.raises(ValueError, match="std"):
        InputStage("rgb", "dataset", mean, std)


def test_constants_at_their_bounds_are_taken_within_rounding():
    found = parse_normalisation("-1e-18 / 1.0000000000000002").constants
    assert found == ((0.0,) * 4, (1.0,) * 4)
    with pytest.raises(ValueError, match="given: '1.000001'"):
        parse_normalisation("0.5 / 1.000001")
