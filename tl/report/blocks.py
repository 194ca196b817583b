"""What a page is made of. Each block is laid out by the template that it names."""

import base64
import dataclasses
import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

from matplotlib.figure import Figure
from PIL import Image

from tl.report import style
from tl.results import formats

_DPI = 144
_CSS_DPI = 96
_JPEG_FROM = 12_000  # bytes: a PNG beyond them is a photograph, which JPEG stores in a fraction


@dataclasses.dataclass(frozen=True)
class Cell:
    """An entry of a table.

    Attributes:
      text: shown.
      value: what rows are sorted by; None, which comes last, for what was not measured.
      href: of the page that the text leads to; '' for none.
      strong: whether it stands out, as the best of a row.
    """

    text: str
    value: float | str | None = None
    href: str = ""
    strong: bool = False


def _cell(text: str) -> Cell:
    return Cell(text, None if text == formats.NONE else text)


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows that a click on a column's header sorts.

    Attributes:
      caption: above the table.
      columns: headers.
      rows: a `Cell` or a text for each column.
      sortable: False where the order says something.
    """

    template: ClassVar = "table.html"
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell | str]]
    sortable: bool = True

    @property
    def cells(self) -> list[list[Cell]]:
        """The rows, every entry a `Cell`."""
        return [[c if isinstance(c, Cell) else _cell(c) for c in row] for row in self.rows]

    @property
    def numeric(self) -> list[bool]:
        """Whether a column holds no texts, but numbers, which are set right."""
        return [
            not any(isinstance(row[i].value, str) for row in self.cells)
            for i in range(len(self.columns))
        ]


@dataclasses.dataclass(frozen=True)
class Text:
    """A paragraph."""

    template: ClassVar = "text.html"
    text: str


@dataclasses.dataclass(frozen=True)
class Facts:
    """Names with their values, both texts, under a title ('' for none)."""

    template: ClassVar = "facts.html"
    title: str
    facts: dict[str, str]


@dataclasses.dataclass(frozen=True)
class Command:
    """A command line that one click selects."""

    template: ClassVar = "command.html"
    text: str


@dataclasses.dataclass(frozen=True)
class Picture:
    """A figure for light and for dark pages, as data URIs; width and height in CSS pixels."""

    template: ClassVar = "picture.html"
    light: str
    dark: str
    width: int
    height: int
    alt: str
    caption: str = ""


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two pictures, side by side where there is room."""

    template: ClassVar = "pair.html"
    pictures: Sequence[Picture]


@dataclasses.dataclass(frozen=True)
class Thumbnail:
    """An image of the data with what is said about it.

    Attributes:
      source: data URI.
      small: whether its pixels are few, and are to be seen as squares when it is enlarged.
      alt: what a reader who does not see it is told.
      lines: names with their values, under the image.
    """

    source: str
    small: bool
    alt: str
    lines: dict[str, str]


@dataclasses.dataclass(frozen=True)
class Gallery:
    """Thumbnails, in order of rank."""

    template: ClassVar = "gallery.html"
    images: Sequence[Thumbnail]


@dataclasses.dataclass(frozen=True)
class Couples:
    """Two thumbnails side by side under each caption, in order of rank."""

    template: ClassVar = "couples.html"
    couples: Sequence[tuple[str, Sequence[Thumbnail]]]


@dataclasses.dataclass(frozen=True)
class Details:
    """Blocks that are shown when asked for."""

    template: ClassVar = "details.html"
    summary: str
    blocks: "Sequence[Block]"


Block = Table | Text | Facts | Command | Picture | Pair | Gallery | Couples | Details


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of a page.

    Attributes:
      title: its heading.
      blocks: what it shows.
      missing: why it shows nothing; '' where it does.
    """

    title: str
    blocks: Sequence[Block]
    missing: str = ""

    @property
    def id(self) -> str:
        """What a link within the page calls it."""
        return re.sub(r"\W+", "-", self.title.lower()).strip("-")


def paragraphs(*texts: str) -> list[Text]:
    """Returns a paragraph for each text that says something."""
    return [Text(text) for text in texts if text]


def percent(fraction: float | None) -> Cell:
    """Returns a cell that shows a fraction in percent."""
    return Cell(formats.percent(fraction), None if fraction is None else float(fraction))


def interval(ends: Sequence[float] | None) -> Cell:
    """Returns a cell that shows two fractions in percent, sorted by the lower."""
    return Cell(formats.interval(ends), ends[0] if ends else None)


def seconds(value: float | None) -> Cell:
    """Returns a cell that shows a time."""
    return Cell(formats.seconds(value), value)


def picture(draw: Callable[[], Figure], alt: str, caption: str = "") -> Picture:
    """Draws a figure twice, for light and for dark pages.

    Args:
      draw: returns the figure, drawn anew.
      alt: what the figure shows, in words and numbers.
      caption: under it.
    """
    light, dark = (style.png(draw, dark=dark, dpi=_DPI) for dark in (False, True))
    with Image.open(io.BytesIO(light)) as image:
        width, height = (round(side * _CSS_DPI / _DPI) for side in image.size)
    return Picture(data_uri(light), data_uri(dark), width, height, alt, caption)


def image_file(path: Path, alt: str) -> Picture:
    """Returns an image file of a run as a picture, as it is."""
    content = path.read_bytes()
    with Image.open(io.BytesIO(content)) as image:
        width, height = image.size
    return Picture(data_uri(content), data_uri(content), width, height, alt)


def thumbnail(path: Path, alt: str, lines: dict[str, str]) -> Thumbnail:
    """Reads an image file of a run, a large one as JPEG.

    Raises:
      OSError: no image is there.
    """
    content = path.read_bytes()
    with Image.open(io.BytesIO(content)) as image:
        small = max(image.size) <= 64
        if len(content) > _JPEG_FROM:
            jpeg = io.BytesIO()
            image.convert("RGB").save(jpeg, "JPEG", quality=88)
            return Thumbnail(data_uri(jpeg.getvalue(), "image/jpeg"), small, alt, lines)
    return Thumbnail(data_uri(content), small, alt, lines)


def data_uri(content: bytes, kind: str = "image/png") -> str:
    """Returns bytes as an address that holds them."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
