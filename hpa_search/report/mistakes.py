"""The worst mistakes, with their images."""

import io

from hpa_search.data.packed import PackedImages
from hpa_search.figures.pictures import of_row
from hpa_search.report.facts import Facts, Judged
from hpa_search.report.page import Gallery, Picture, Section, Text

TITLE = "The worst mistakes"


def mistakes(facts: Facts) -> Section:
    """Return the section; empty without predictions."""
    found = facts.predictions
    if found is None:
        return Section(TITLE, ())
    rows = found.worst()
    if not len(rows):
        return Section(TITLE, (Text(f"All {len(found.ids)} {found.part} images got just their labels."),))
    if facts.images is None:
        return Section(TITLE, (Text(f"The images were not found at {facts.provenance.data}; give their new place with --data."),))
    pictures = tuple(_picture(facts, facts.images, found, row, place) for place, row in enumerate(rows.tolist()))
    text = (
        f"The {len(rows)} {found.part} images on which the bundle is wrong with the most confidence. Red is microtubules, green the protein, "
        "blue the nucleus; each channel is stretched to its brightest pixels."
    )
    return Section(TITLE, (Text(text), Gallery(pictures)))


def _picture(facts: Facts, images: PackedImages, found: Judged, row: int, place: int) -> Picture:
    true, said = found.in_words(row, facts.labels)
    file = io.BytesIO()
    of_row(images, found.ids[row]).save(file, "JPEG", quality=88)
    caption = f"{found.ids[row]}: {true}. Predicted: {said}."
    return Picture(f"mistake_{place + 1:02d}", file.getvalue(), caption, f"Image {found.ids[row]}, labelled {true}", type="jpg")
