"""What a page holds, as a browser would parse it."""

import base64
import html.parser
from pathlib import Path

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
)  # a PNG

# What users call their folders.
CLASSES = ("<script>alert(1)</script>", "a \"quoted\" & 'plain' one", "кошка", "$x^2$")
EVIDENCE = [
    "confusion-matrix",
    "classes",
    "reliability",
    "features",
    "most-confident-mistakes",
    "least-certain-right-answers",
    "likely-mislabelled",
]


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
