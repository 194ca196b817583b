"""The pages in Chromium: nothing missing, nothing too wide, nothing on the console, sorted."""

import numpy as np
import pytest
from PIL import Image

from tests import browser, reported
from tl.report import page

pytestmark = pytest.mark.browser

WIDTHS = (360, 1280)  # a phone's and a desktop's, CSS pixels
# As long as names may be: of a folder, a data set, a file of weights, a method.
FOLDER = "finetune-efficientnet_lite0-oxford_flowers102-20261125-035818-again"
LONG = {
    "data": {
        "name": "oxford_flowers102_of_tensorflow_datasets",
        "version": "2.1.1",
        "splits": {"train": "train"},
        "classes": 3,
        "images": 1000,
        "looked_at": 1000,
    },
    "weights": {
        "name": "/a/long/path/to/the/weights/of_a_network.safetensors",
        "sha256": "57" * 32,
    },
}
CHOICE = {
    "method": "a probe of several earlier layers, concatenated",
    "endpoint": "stage3+stage4+stage5",
    "top1": 0.9,
    "top1_interval": [0.85, 0.95],
    "seconds": 3000.0,
    "command": "python -m experiments.probe --config=X",
}
ENDPOINT = {
    "endpoint": "stage3+stage4+stage5",
    "width": 1280,
    "logme": 1.2534,
    "h_score": 103.51,
    "knn_top1": 0.8,
    "l2": 0.0003162,
    "top1": {"100": 0.7, "200": 0.8, "400": 0.85, "800": 0.9},
}
CLASSES = ("<script>alert(1)</script>", "a \"quoted\" & 'plain' one", "кошка", "a" * 80)


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    return {
        "probe": page.build(reported.write_probe(root / "probe", CLASSES)),
        "finetune": page.build(reported.write_finetune(root / FOLDER, **LONG)),
        "study": page.build(reported.write_study(root / "study")),
        "advice": page.build(
            reported.write_advice(root / "advice", choices=[CHOICE], endpoints=[ENDPOINT], **LONG)
        ),
        "index": page.index(root),
    }


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    if browser.executable() is None:
        pytest.skip(
            f"no {browser.PATH}: install Debian's package chromium, or have it installed by "
            f"setting {browser.INSTALL}=1"
        )
    with browser.chromium(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["probe", "finetune", "study", "advice", "index"])
def test_a_page_is_whole(chromium, pages, name, width, dark):
    chromium.open(pages[name], width=width, dark=dark)
    chromium.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    # A phone's view grows with what is too wide for it, so the width given counts.
    assert chromium.evaluate("document.documentElement.scrollWidth") == width
    if width == max(WIDTHS):  # where a table has room it is not to be scrolled to see its end
        scrolled = "[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.{})"
        assert chromium.evaluate(scrolled.format("clientWidth") + ".map(e => e.ariaLabel)") == []
    images = "[...document.images]"
    assert chromium.evaluate(f"{images}.length") > 0
    assert chromium.evaluate(f"{images}.filter(i => !i.complete || !i.naturalWidth).length") == 0
    # The dark pictures where the page is dark.
    inked = chromium.evaluate(
        "[...document.querySelectorAll('picture')].filter(p => "
        "p.querySelector('img').currentSrc === p.querySelector('source').srcset).length"
    )
    assert inked == (chromium.evaluate("document.querySelectorAll('picture').length") * dark)
    assert chromium.complaints() == []
    assert chromium.requests() == [pages[name].resolve().as_uri()]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_text_contrasts_with_the_page(chromium, pages, dark):
    chromium.open(pages["probe"], width=1280, dark=dark)
    for selector in ("h1", ".kind", ".notes", "nav a", ".facts dt", ".warnings h2", "caption"):
        colours = chromium.evaluate(
            f"(e => [getComputedStyle(e).color, getComputedStyle(e.closest('.warnings') || "
            f"document.body).backgroundColor])(document.querySelector({selector!r}))"
        )
        assert _contrast(*colours) >= 4.5, selector  # WCAG 2.1, level AA


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("name", ["probe", "advice"])
def test_a_shade_lies_where_a_phone_shows_no_more_of_a_box(chromium, pages, tmp_path, name, dark):
    chromium.open(pages[name], width=375, dark=dark)
    boxes = chromium.evaluate(
        "(window.wide = [...document.querySelectorAll('.scroll, .command')]"
        ".filter(e => e.checkVisibility() && e.scrollWidth > e.clientWidth)).map(e => {"
        "const r = e.getBoundingClientRect(); return [r.left, r.right, r.top, r.bottom]})"
    )
    assert len(boxes) > 1

    def shades(file):
        """Returns how much the edges of boxes differ from their insides, left and right ones."""
        chromium.screenshot(tmp_path / file)
        with Image.open(tmp_path / file) as image:
            pixels = np.asarray(image.convert("L")).astype(int)
        for left, right, top, bottom in boxes:
            box = pixels[round(top) + 2 : round(bottom) - 2, round(left) + 2 : round(right) - 2]
            inside = np.median(box)
            # A median over the height, for there are lines and letters, too.
            yield abs(np.median(box[:, 0]) - inside), abs(np.median(box[:, -1]) - inside)

    for left, right in shades("start.png"):
        assert left < 3 and right > 25
    chromium.evaluate("wide.forEach(e => e.scrollLeft = 9999)")
    for left, right in shades("end.png"):
        assert left > 25 and right < 3
    chromium.evaluate("wide.forEach(e => e.scrollLeft = (e.scrollWidth - e.clientWidth) / 2)")
    assert any(left > 25 and right > 25 for left, right in shades("middle.png"))


def _contrast(one: str, other: str) -> float:
    """Returns the ratio of contrast of two colours such as 'rgb(29, 33, 39)' (WCAG 2.1)."""
    luminances = []
    for colour in (one, other):
        parts = [int(part) / 255 for part in colour.strip("rgb()").split(",")]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        luminances.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(luminances) + 0.05) / (min(luminances) + 0.05)


def test_a_header_sorts_by_mouse_and_by_keyboard(chromium, pages):
    chromium.open(pages["probe"], width=1280)
    chromium.evaluate("window.table = document.querySelector('#classes table')")
    column = "[...table.tBodies[0].rows].map(row => row.cells[{}].textContent)"
    names = chromium.evaluate(column.format(0))
    assert names == list(CLASSES)

    chromium.evaluate("table.tHead.rows[0].cells[2].querySelector('button').click()")
    recalls = chromium.evaluate(column.format(2))
    assert [recall.split("\u202f")[0] for recall in recalls] == ["100.0", "100.0", "95.0", "90.0"]
    order = "[...table.tHead.rows[0].cells].map(cell => cell.ariaSort)"
    assert chromium.evaluate(order) == [None, None, "descending", None, None, None]

    chromium.evaluate("table.tHead.rows[0].cells[2].querySelector('button').focus()")
    chromium.press("Enter")
    assert chromium.evaluate(order)[2] == "ascending"
    assert chromium.evaluate(column.format(0))[:2] == [CLASSES[0], CLASSES[1]]

    # What was taken for nothing stays last, whichever way the others go.
    for expected in ("descending", "ascending"):
        chromium.evaluate("table.tHead.rows[0].cells[5].querySelector('button').focus()")
        chromium.press(" ")
        assert chromium.evaluate(order)[5] == expected
        assert chromium.evaluate(column.format(5))[2:] == ["\u2013"] * 2
    assert chromium.complaints() == []


def test_links_of_the_index_lead_to_pages(chromium, pages):
    chromium.open(pages["index"], width=1280)
    links = chromium.evaluate("[...document.querySelectorAll('main a')].map(a => a.href)")
    expected = {pages[name].resolve().as_uri() for name in pages if name != "index"}
    assert set(links) == expected
