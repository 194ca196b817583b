import pytest

from tl.report import fonts, lettering


@pytest.fixture(autouse=True)
def families():
    with fonts.fallbacks():
        yield


def test_widths_are_inches():
    # An m of DejaVu Sans is 1995 units wide, of 2048 to the size of the font; ink is a bit less.
    assert lettering.width("m" * 100, 36) == pytest.approx(100 * 0.5 * 1995 / 2048, rel=0.005)
    assert lettering.width("m" * 100, 9) == pytest.approx(25 / 2 * 1995 / 2048, rel=0.01)
    assert lettering.width("", 9) == 0


def test_a_dollar_sign_is_no_formula():
    assert lettering.width("$x_{$", 9) > lettering.width("x_{", 9)


def test_what_fits_stays():
    assert lettering.shortened("cat", 1, 9) == "cat"
    assert lettering.shortened("two\n lines", 1, 9) == "two lines"


@pytest.mark.parametrize("letter", ["W", "i", "щ", "ب", "字"])
def test_a_long_name_loses_its_middle_and_no_more_than_needed(letter):
    name = f"a{letter * 70}z"
    short = lettering.shortened(name, 1.2, 9)
    assert short.startswith(f"a{letter}") and short.endswith(f"{letter}z")
    assert short.count("…") == 1
    assert lettering.width(short, 9) <= 1.2
    assert lettering.width(short.replace("…", f"…{letter * 2}"), 9) > 1.2


def test_two_thirds_are_of_the_start_and_no_space_is_beside_the_gap():
    room = lettering.width("a long…me", 9) + 0.01
    assert lettering.shortened("a long or a longer name", room, 9) == "a long…me"


def test_no_room_leaves_the_dots():
    assert lettering.shortened("cat", 0.01, 9) == "…"


def test_lines_break_between_words():
    room = lettering.width("three four", 9) + 0.01
    assert lettering.wrapped("one two three four five", room, 9) == "one two\nthree four\nfive"
    assert lettering.wrapped("one\n\ntwo", room, 9) == "one\n\ntwo"
    assert lettering.wrapped("", room, 9) == ""


def test_a_word_too_long_for_a_line_is_broken():
    lines = lettering.wrapped("a " + "W" * 50 + " b", 1, 9).split("\n")
    assert "".join(lines).replace(" ", "") == "a" + "W" * 50 + "b"
    assert all(lettering.width(line, 9) <= 1 for line in lines)
    assert lines[0] == "a" and lines[-1].endswith(" b")


def test_a_line_has_a_letter_at_least():
    assert lettering.wrapped("cat", 0.01, 9) == "c\na\nt"
