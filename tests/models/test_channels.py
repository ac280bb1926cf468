import pytest
import torch

from hpa_search.models.channels import SELECTIONS, InputStage

MEAN, STD = [0.1, 0.2, 0.3, 0.4], [0.5, 0.25, 0.2, 0.1]


@pytest.mark.parametrize("channels", SELECTIONS)
def test_selects_and_normalises_by_hand(channels):
    images = torch.randint(0, 256, (2, 4, 5, 5), dtype=torch.uint8)
    result = InputStage(channels, MEAN, STD)(images)
    assert result.dtype == torch.float32
    for position, source in enumerate(SELECTIONS[channels]):
        expected = (images[:, source].double() / 255 - MEAN[source]) / STD[source]
        torch.testing.assert_close(result[:, position].double(), expected, atol=1e-5, rtol=1e-5)


def test_green_is_the_second_stain():
    images = torch.zeros(1, 4, 2, 2, dtype=torch.uint8)
    images[:, 1] = 255
    assert (InputStage("green", [0.0] * 4, [1.0] * 4)(images) == 1).all()
    assert InputStage("rgb", MEAN, STD)(images).shape == (1, 3, 2, 2)


def test_float_images_are_in_units_of_one():
    images = torch.randint(0, 256, (2, 4, 3, 3), dtype=torch.uint8)
    stage = InputStage("rgby", MEAN, STD)
    torch.testing.assert_close(stage(images), stage(images.float() / 255), atol=1e-5, rtol=1e-5)


def test_statistics_travel_with_the_weights():
    state = InputStage("rgb", MEAN, STD).state_dict()
    other = InputStage("rgb", [0.0] * 4, [1.0] * 4)
    other.load_state_dict(state)
    assert other.mean.flatten().tolist() == pytest.approx(MEAN[:3])


def test_an_empty_stain_stays_finite():
    images = torch.zeros(1, 4, 2, 2, dtype=torch.uint8)
    assert InputStage("rgby", [0.0] * 4, [0.0] * 4)(images).isfinite().all()


@pytest.mark.parametrize(("mean", "std"), [([0.1] * 3, [0.1] * 4), ([0.1] * 4, [0.1, 0.1, -0.1, 0.1])])
def test_wrong_statistics_are_refused(mean, std):
    with pytest.raises(ValueError, match="std"):
        InputStage("rgb", mean, std)
