"""A page of sections, as one HTML file that needs no network, or as Markdown beside its pictures."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from hpa_search.files import whole, write_text

_TYPES = {"svg": "image/svg+xml", "jpg": "image/jpeg"}


@dataclass(frozen=True)
class Text:
    """A paragraph. ``lead`` sets it in large type: the answer to the page's question."""

    text: str
    lead: bool = False

    kind = "text"


@dataclass(frozen=True)
class Points:
    """A list of sentences."""

    points: tuple[str, ...]

    kind = "points"


@dataclass(frozen=True)
class Table:
    """Rows of equal columns under a caption. The first column names the row. Numbers are texts already."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    kind = "table"

    def __post_init__(self) -> None:
        assert all(len(row) == len(self.columns) for row in self.rows), self.caption


@dataclass(frozen=True)
class Picture:
    """A picture in a file of the type `svg` or `jpg`. ``alt`` says in words what it shows, for those who cannot see it."""

    name: str
    content: bytes
    caption: str
    alt: str
    type: str = "svg"

    kind = "picture"

    @property
    def file(self) -> str:
        """The name of the picture's file beside a Markdown page."""
        return f"{self.name}.{self.type}"

    @property
    def data(self) -> str:
        """The picture as a URL that holds all of it."""
        return f"data:{_TYPES[self.type]};base64,{base64.b64encode(self.content).decode()}"


@dataclass(frozen=True)
class Gallery:
    """Small pictures beside each other."""

    pictures: tuple[Picture, ...]

    kind = "gallery"


@dataclass(frozen=True)
class Listing:
    """Text whose lines are kept as they are, such as a settings file."""

    title: str
    text: str

    kind = "listing"


Block = Text | Points | Table | Picture | Gallery | Listing


@dataclass(frozen=True)
class Section:
    """A part of the page under a heading. Without blocks it is left out."""

    title: str
    blocks: tuple[Block, ...]

    @property
    def anchor(self) -> str:
        """The name of the section in a link."""
        return "-".join("".join(letter if letter.isalnum() else " " for letter in self.title.lower()).split())


@dataclass(frozen=True)
class Page:
    """A title, a line below it, and sections."""

    title: str
    subtitle: str
    sections: tuple[Section, ...]

    def write_html(self, path: Path) -> None:
        """Write the page as one HTML file."""
        write_text(path, _render("report.html.j2", self))

    def write_markdown(self, folder: Path) -> None:
        """Write README.md and the pictures into ``folder``."""
        for picture in self._pictures():
            with whole(folder / picture.file) as temporary:
                temporary.write_bytes(picture.content)
        write_text(folder / "README.md", _render("report.md.j2", self))

    def _pictures(self) -> list[Picture]:
        blocks = [block for section in self.sections for block in section.blocks]
        pictures = [block for block in blocks if isinstance(block, Picture)]
        return pictures + [picture for block in blocks if isinstance(block, Gallery) for picture in block.pictures]


def table(caption: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return the table of ``rows``, each a mapping from column to cell. Floats get four digits, None is empty."""
    return Table(caption, tuple(rows[0]), tuple(tuple(map(cell, row.values())) for row in rows))


def cell(value: Any) -> str:
    """Return the text of a cell."""
    if value is None:
        return ""
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _render(name: str, page: Page) -> str:
    environment = Environment(
        loader=PackageLoader("hpa_search.report"),
        autoescape=name.endswith(".html.j2"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["cell"] = lambda text: text.replace("|", "\\|").replace("\n", " ")
    shown = [section for section in page.sections if section.blocks]
    return environment.get_template(name).render(page=page, sections=shown)
