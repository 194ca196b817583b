"""Names that no font draws are numbers or boxes, and nobody is warned of them."""

import logging
import warnings

import matplotlib
import pytest
from fontTools.ttLib import TTFont
from matplotlib import font_manager
from matplotlib.figure import Figure

from tl.report import fonts, style

NAMES = ["cat", "кошка", "猫", "🐶 dog", "café", "two\nlines", "\udcff"]


@pytest.fixture
def machine(monkeypatch):
    """Returns what makes this a machine with no other fallbacks than those given."""

    def with_fallbacks(*families, files=()):
        monkeypatch.setattr(fonts, "FALLBACKS", families)
        monkeypatch.setattr(font_manager, "findSystemFonts", lambda: list(files))
        fonts.families.cache_clear()
        fonts._characters.cache_clear()

    listed = list(font_manager.fontManager.ttflist)
    monkeypatch.setattr(font_manager.fontManager, "ttflist", listed)
    yield with_fallbacks
    fonts.families.cache_clear()
    fonts._characters.cache_clear()


def test_families_are_those_installed(machine):
    machine("No Such Font", "STIXGeneral")
    assert fonts.families() == ["DejaVu Sans", "STIXGeneral"]


def test_a_font_installed_after_matplotlib_made_its_list(machine, tmp_path):
    font = TTFont(font_manager.findfont("DejaVu Sans"))
    for record in font["name"].names:
        if record.nameID in (1, 16):
            record.string = "A New Font"
    font.save(tmp_path / "new.ttf")
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    machine("A New Font", files=[str(tmp_path / "broken.ttf"), str(tmp_path / "new.ttf")])
    assert fonts.families() == ["DejaVu Sans", "A New Font"]


def test_what_no_font_has_is_a_number_or_a_box(machine):
    machine()
    assert fonts.class_names(NAMES) == ["cat", "кошка", "#2", "#3", "café", "#5", "#6"]
    assert list(map(fonts.legible, NAMES)) == [
        "cat", "кошка", "□", "□ dog", "café", "two\nlines", "□",
    ]  # fmt: skip


def test_a_fallback_draws_what_dejavu_lacks(machine):
    known = set(font_manager.get_font(font_manager.findfont("STIXGeneral")).get_charmap())
    known -= set(font_manager.get_font(font_manager.findfont("DejaVu Sans")).get_charmap())
    character = chr(min(known))
    machine()
    assert not fonts.drawable(character)
    machine("STIXGeneral")
    assert fonts.drawable(character) and fonts.class_names([character]) == [character]
    with fonts.fallbacks():
        assert matplotlib.rcParams["font.family"] == ["DejaVu Sans", "STIXGeneral"]


def test_before_matplotlib_shaped_words_arabic_was_not_legible(machine, monkeypatch):
    machine()
    monkeypatch.setattr(fonts, "_SHAPES", True)
    assert fonts.drawable("قطة")
    monkeypatch.setattr(fonts, "_SHAPES", False)
    assert fonts.class_names(["cat", "قطة", "חתול"]) == ["cat", "#1", "#2"]


def test_pages_say_what_is_missing(machine):
    machine()
    assert fonts.about_classes(["cat", "кошка"]) == fonts.about(["café"]) == ""
    said = fonts.about_classes(["犬", "猫 cat", "犬"])
    assert said.startswith(
        "No font of the machine that made this page can draw 犬 猫; in the pictures such a class "
        "goes by its number, which the table of classes has. With a font"
    )
    many = fonts.about(map(chr, range(0x4E00, 0x4E20)))
    assert "\u4e00 \u4e01 " in many and "\u4e0b and others; in the pictures □ stands" in many


def test_nobody_is_warned(machine, caplog):
    machine("STIXGeneral")

    def draw():
        figure = Figure(figsize=(2, 1))
        figure.text(0.1, 0.5, "猫", weight=250)
        return figure

    with warnings.catch_warnings(record=True) as warned, caplog.at_level(logging.WARNING):
        warnings.simplefilter("always")
        assert style.png(draw, dark=False)
    assert not warned and not caplog.records
    assert logging.getLogger(font_manager.__name__).level == logging.NOTSET  # as it was
