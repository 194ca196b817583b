"""What a page holds, as a browser would parse it."""

import html.parser
from pathlib import Path

import PIL.Image
import pytest

from tl.report import style


class Page(html.parser.HTMLParser):
    """The tags of a page and its visible text.

    Attributes:
      tags: (name, attributes) of each.
      text: all that is not markup, style or script, words parted by one space.
      sections: id to text.
    """

    def __init__(self, path: Path):
        super().__init__()
        self.tags, self.sections = [], {}
        self._texts, self._silent, self._section = [], 0, None
        self.feed(path.read_text(encoding="utf-8"))
        self.text = _words(self._texts)
        self.sections = {name: _words(texts) for name, texts in self.sections.items()}

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self._silent += tag in ("script", "style", "title")
        if tag == "section":
            self._section = self.sections.setdefault(dict(attributes)["id"], [])

    def handle_endtag(self, tag):
        self._silent -= tag in ("script", "style", "title")
        if tag == "section":
            self._section = None

    def handle_data(self, data):
        if not self._silent:
            self._texts.append(data)
            if self._section is not None:
                self._section.append(data)

    def of(self, tag: str) -> list[dict[str, str]]:
        """Returns the attributes of every such tag."""
        return [attributes for name, attributes in self.tags if name == tag]


def _words(texts: list[str]) -> str:
    plain = " ".join(texts).translate({0x202F: " ", 0x2013: "-"})  # narrow space, dash
    return " ".join(plain.split())


@pytest.fixture
def undrawn(monkeypatch, tmp_path):
    """Puts a point in the place of every figure, for tests of what is around them."""
    PIL.Image.new("RGB", (3, 2)).save(tmp_path / "point.png")
    content = (tmp_path / "point.png").read_bytes()
    monkeypatch.setattr(style, "png", lambda draw, dark, dpi: content)
