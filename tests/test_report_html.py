import re
from pathlib import Path

import jinja2
import pytest

from tests import pages
from tl.errors import UserError
from tl.report import html

TEMPLATES = Path(html.__file__).parent / "templates"


def test_nothing_is_loaded_from_elsewhere(probe_page):
    folder, shown = probe_page
    sources = [tag.get("src") or tag.get("srcset") for _, tag in shown.tags]
    sources = [source for source in sources if source]
    assert len(sources) > 15 and all(source.startswith("data:image/") for source in sources)
    hrefs = [a["href"] for tag in ("a", "link") for a in shown.of(tag)]
    assert all(href.startswith(("#", "data:,")) for href in hrefs)
    text = (folder / "report.html").read_text()
    assert "http:" not in text and "https:" not in text and "@import" not in text


def test_names_are_text_wherever_they_come_from(probe_page):
    _, shown = probe_page
    assert len(shown.of("script")) == 1  # the page's own
    for name in pages.CLASSES[:3]:
        assert name in shown.sections["classes"]
    assert pages.CLASSES[2] in shown.sections["least-certain-right-answers"]


def test_a_page_that_cannot_be_written_is_the_users_mistake(tmp_path):
    path = tmp_path / "file" / "index.html"
    path.parent.touch()
    with pytest.raises(UserError, match=r"index.html cannot be written: Not a directory"):
        html.write(path, "index.html", title="", summary="", sections=[])


def test_a_value_that_a_template_lacks_is_an_error(tmp_path):
    with pytest.raises(jinja2.UndefinedError, match="'summary' is undefined"):
        html.write(tmp_path / "index.html", "index.html", title="", sections=[])
    assert not list(tmp_path.iterdir())


def test_what_may_be_wide_is_in_a_box_that_scrolls():
    templates = {path.name: path.read_text() for path in TEMPLATES.glob("*.html")}
    for name, wide in (("table.html", "<table"), ("picture.html", "<picture")):
        before, _ = templates.pop(name).split(wide)
        assert '<div class="scroll"' in before
    assert not [name for name, text in templates.items() if "<table" in text or "<picture" in text]
    css = (TEMPLATES / "page.css").read_text()
    (rule,) = re.findall(r"^\.scroll, \.command \{(.*?)^\}", css, re.DOTALL | re.MULTILINE)
    assert "overflow: auto" in rule
    # Two covers that move with the content, over the shades at both sides.
    assert rule.count(" local;") == rule.count("var(--shade)") == 2
