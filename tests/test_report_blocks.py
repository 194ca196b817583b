import base64
import io

import numpy as np
import pytest
from PIL import Image

from tests import pages
from tl.report import blocks, html


def test_pictures_are_for_light_and_dark_and_described(probe_page):
    _, shown = probe_page
    pictures = len(shown.of("picture"))
    assert pictures == 7  # endpoints, strengths, two confusions, reliability, PCA, t-SNE
    dark = shown.of("source")
    assert [s["media"] for s in dark] == ["(prefers-color-scheme: dark)"] * pictures
    light = [image for image in shown.of("img") if "width" in image]
    for one, other in zip(light, dark, strict=True):
        assert one["src"] != other["srcset"]
        with Image.open(io.BytesIO(base64.b64decode(one["src"].partition(",")[2]))) as image:
            # 144 pixels an inch, 96 CSS pixels an inch.
            assert image.width / 1.5 == pytest.approx(int(one["width"]), abs=1)
    alts = [image["alt"] for image in shown.of("img")]
    assert all(len(alt) > 20 for alt in alts) and len(set(alts)) >= len(alts) - 1
    assert any(f"{pages.CLASSES[0]} taken for {pages.CLASSES[1]}, 2 times" in alt for alt in alts)


def test_a_column_without_texts_is_numeric():
    rows = [["a", blocks.percent(0.5), blocks.seconds(None)], ["b", "-", blocks.seconds(3.0)]]
    table = blocks.Table("", ["name", "top-1", "time"], rows)
    assert table.numeric == [False, False, True]
    assert [cell.value for cell in table.cells[1]] == ["b", "-", 3.0]


def test_cells_are_sorted_by_their_numbers():
    assert blocks.percent(0.923) == blocks.Cell("92.3\u202f%", 0.923)
    assert blocks.percent(None).value is None
    assert blocks.interval([0.25, 0.5]).value == 0.25
    assert blocks.interval(None).value is None


def test_sections_are_linked_by_their_titles():
    assert blocks.Section("Most confident mistakes!", []).id == "most-confident-mistakes"


def test_empty_texts_are_no_paragraphs():
    assert blocks.paragraphs("one", "", "two") == [blocks.Text("one"), blocks.Text("two")]


@pytest.mark.parametrize(("side", "kind", "small"), [(8, "png", True), (100, "jpeg", False)])
def test_a_thumbnail_keeps_few_pixels_and_compresses_many(side, kind, small, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    found = blocks.thumbnail(tmp_path / "a.png", "noise", {"true": "cat"})
    assert found.source.startswith(f"data:image/{kind};base64,") and found.small == small
    with Image.open(io.BytesIO(base64.b64decode(found.source.partition(",")[2]))) as image:
        assert image.size == (side, side)
        assert (np.asarray(image) == pixels).all() == (kind == "png")


def test_a_long_name_beside_a_number_may_be_broken(tmp_path):
    rows = [[blocks.Cell("x" * 60 + " (5.0 %)", 0.05)], [blocks.Cell("x (5.0 %)", 0.05)]]
    section = blocks.Section("Classes", [blocks.Table("taken for", ["most often taken for"], rows)])
    path = html.write(tmp_path / "a.html", "index.html", title="", summary="", sections=[section])
    cells = pages.Page(path).of("td")
    assert [cell["class"] for cell in cells] == ["number long", "number"]
