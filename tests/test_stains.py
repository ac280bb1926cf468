from hpa_search.stains import COLOURS, LETTERS, NUM_STAINS, STAINS


def test_the_channels_are_red_green_blue_yellow_in_this_order():
    assert COLOURS == ("red", "green", "blue", "yellow")
    assert LETTERS == "rgby"
    assert NUM_STAINS == 4


def test_green_is_the_protein():
    assert {stain.colour: stain.shows for stain in STAINS} == {
        "red": "microtubules",
        "green": "protein of interest",
        "blue": "nucleus",
        "yellow": "endoplasmic reticulum",
    }
