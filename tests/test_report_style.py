import io

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from tl.report import style

PAGES = {False: "#ffffff", True: "#14171a"}


def luminance(colour):
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in to_rgb(colour)]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def contrast(a, b):
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def line():
    figure = Figure(figsize=(3, 2), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], color=style.colour(0))
    axes.set_xlabel("cost ($) of a_{b}")
    return figure


@pytest.mark.parametrize("dark", [False, True])
def test_text_and_colours_are_legible_on_the_page(dark):
    with style.theme(dark):
        assert contrast(style.ink(), PAGES[dark]) > 7
        assert contrast(style.quiet(), PAGES[dark]) > 4.5
        # Yellow and sky blue are pale on white, as are no two on the dark page.
        visible = [contrast(style.colour(i), PAGES[dark]) for i in range(7)]
        assert min(visible) > (3 if dark else 2)
        for colours in (style.continuous()(np.linspace(0, 1, 9)), style.sequential()([1.0])):
            assert min(contrast(colour[:3], PAGES[dark]) for colour in colours) > 1.6


@pytest.mark.parametrize("dark", [False, True])
def test_amounts_begin_near_the_page_and_leave_it_steadily(dark):
    with style.theme(dark):
        steps = [luminance(c[:3]) for c in style.sequential()(np.linspace(0, 1, 20))]
    assert contrast((style._DARK_MAP if dark else style._LIGHT_MAP)[0], PAGES[dark]) < 1.2
    assert (np.diff(steps) * (1 if dark else -1) > 0).all()


def test_a_theme_ends():
    before = dict(matplotlib.rcParams)
    with pytest.raises(RuntimeError), style.theme(dark=True):
        assert matplotlib.rcParams["text.color"] != before["text.color"]
        raise RuntimeError
    assert dict(matplotlib.rcParams) == before


def test_a_picture_is_transparent_and_the_same_each_time():
    light = style.png(line, dark=False)
    assert style.png(line, dark=False) == light
    dark = style.png(line, dark=True)
    assert dark != light
    for content in (light, dark):
        with Image.open(io.BytesIO(content)) as image:
            assert image.size == (3 * 144, 2 * 144)
            assert image.mode == "RGBA"
            assert image.getpixel((0, 0))[3] == 0
            assert image.getextrema()[3] == (0, 255)


def test_resolution():
    with Image.open(io.BytesIO(style.png(line, dark=True, dpi=50))) as image:
        assert image.size == (150, 100)


def test_pairs_of_colour_and_marker_differ():
    assert len({(style.colour(i), style.marker(i)) for i in range(49)}) == 49


def test_black_gives_way_on_a_dark_page():
    with style.theme(dark=True):
        assert style.colour(6) == style.ink() != style.COLOURS[6]


@pytest.mark.parametrize(
    ("background", "expected"),
    [((1, 1, 1), "black"), ((0, 0, 0, 1), "white"), ((0, 0.4, 0.64, 1), "white")],
)
def test_text_on_a_background(background, expected):
    assert style.text_on(background) == expected


def test_error_lengths():
    below, above = style.error_lengths([(0.5, (0.4, 0.7)), (0.5, (0.5 + 1e-16, 0.5))])
    np.testing.assert_allclose([below, above], [[10, 0], [20, 0]], atol=1e-9)
    rounded = style.error_lengths([(0.5, (np.nextafter(0.5, 1),) * 2)])
    assert min(map(min, rounded)) == 0


@pytest.mark.parametrize(
    ("values", "labels"), [((10, 300), {"20", "100"}), ((1e-6, 1e5), {"1e-06", "0.01", "100"})]
)
def test_a_log_axis_has_plain_numbers(values, labels):
    figure = Figure()
    axes = figure.subplots()
    axes.plot(values, (0, 1))
    style.log_axis(axes)
    figure.draw_without_rendering()
    assert labels <= {text.get_text() for text in axes.get_xticklabels()}


def test_a_figure_is_saved_on_white_under_its_title(tmp_path):
    with style.theme(dark=False):
        style.save(line(), "a title of \udcff", tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert image.convert("RGB").getpixel((0, 0)) == (255, 255, 255)
        assert image.size == (3 * 150, 2 * 150)
