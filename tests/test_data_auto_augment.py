import numpy as np
import pytest
from PIL import Image

from tl.data import auto_augment
from tl.data.augment import Augmentation, augment
from tl.weights.spec import Preprocessing

RAMP = np.arange(16).reshape(4, 4)
F = 128  # what appears from outside


def square(size, **fields):
    return Preprocessing(size=size, geometry="whole", **fields)


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def grey(rows):
    return np.repeat(np.asarray(rows, np.uint8)[:, :, None], 3, axis=2)


@pytest.mark.parametrize(
    ("name", "strength", "before", "after"),
    [
        ("identity", 0, RAMP, RAMP),
        # Row y is read at floor(x + 0.5 + slope * (y + 0.5)).
        ("shear_x", 0.5, RAMP, [[0, 1, 2, 3], [5, 6, 7, F], [9, 10, 11, F], [14, 15, F, F]]),
        ("shear_x", -0.5, RAMP, [[0, 1, 2, 3], [F, 4, 5, 6], [F, 8, 9, 10], [F, F, 12, 13]]),
        ("shear_y", 0.5, RAMP.T, np.transpose([[0, 1, 2, 3], [5, 6, 7, F], [9, 10, 11, F],
                                               [14, 15, F, F]])),
        ("translate_x", 1.9, RAMP[:1], [[F, 0, 1, 2]]),
        ("translate_x", -1.9, RAMP[:1], [[1, 2, 3, F]]),
        ("translate_y", 2.0, RAMP[:, :1], [[F], [F], [0], [4]]),
        ("rotate", 90, RAMP, np.rot90(RAMP)),
        ("rotate", -90, RAMP, np.rot90(RAMP, -1)),
        ("brightness", 0.5, [[100, 200]], [[150, 255]]),
        ("brightness", -0.5, [[100, 200]], [[50, 100]]),
        ("contrast", 0.5, [[50, 150]], [[25, 175]]),
        ("contrast", -0.5, [[50, 150]], [[75, 125]]),
        ("color", 0.9, [[50, 150]], [[50, 150]]),
        # The centre smoothed is 130 * 5 / 13 = 50; sharper is 50 + 1.5 * (130 - 50).
        ("sharpness", 0.5, [[0, 0, 0], [0, 130, 0], [0, 0, 0]], [[0, 0, 0], [0, 170, 0], [0] * 3]),
        ("posterize", 1.6, [[255, 6, 3]], [[252, 4, 0]]),
        ("posterize", 0.4, [[255, 6, 3]], [[255, 6, 3]]),
        ("solarize", 85, [[169, 170, 255]], [[169, 85, 0]]),
        ("autocontrast", 0, [[50, 100, 150]], [[0, 127, 255]]),
        ("equalize", 0, [[10, 20]] * 256, [[0, 255]] * 256),
    ],
)  # fmt: skip
def test_an_operation_by_hand(name, strength, before, after):
    picture = Image.fromarray(grey(before))
    out = auto_augment.OPERATIONS[name].apply(picture, strength)
    np.testing.assert_array_equal(np.asarray(out), grey(after))


def test_less_colour_is_nearer_to_grey():
    # Rec. 601: 0.299 * 100 + 0.587 * 40 + 0.114 * 10 = 54.5.
    picture = Image.fromarray(np.array([[[100, 40, 10]]], np.uint8))
    out = auto_augment.OPERATIONS["color"].apply(picture, -0.5)
    np.testing.assert_array_equal(np.asarray(out), [[[77, 47, 32]]])


def test_a_turn_uncovers_grey_corners():
    picture = Image.fromarray(np.full((9, 9, 3), 7, np.uint8))
    out = np.asarray(auto_augment.OPERATIONS["rotate"].apply(picture, 45))
    assert {tuple(out[y, x]) for y in (0, -1) for x in (0, -1)} == {auto_augment.FILL}
    assert (out[2:7, 2:7] == 7).all()


def test_ranges_are_torchvisions():
    ranges = {name: (op.narrow, op.wide, op.signed) for name, op in auto_augment.OPERATIONS.items()}
    enhanced = dict.fromkeys(("brightness", "color", "contrast", "sharpness"), (0.9, 0.99, True))
    plain = dict.fromkeys(("identity", "autocontrast", "equalize"), (0, 0, False))
    assert ranges == {
        "shear_x": (0.3, 0.99, True),
        "shear_y": (0.3, 0.99, True),
        "translate_x": (150 / 331, 32, True),
        "translate_y": (150 / 331, 32, True),
        "rotate": (30, 135, True),
        "posterize": (4, 6, False),
        "solarize": (255, 255, False),
        **enhanced,
        **plain,
    }


@pytest.fixture
def strengths(monkeypatch):
    """What a table of two operations, signed by the side and unsigned, is asked for."""
    asked = {"signed": [], "unsigned": []}

    def note(name):
        return lambda picture, strength: asked[name].append(round(strength, 6)) or picture

    operations = {
        "signed": auto_augment.Operation(note("signed"), 0.5, 60, signed=True, per_side=True),
        "unsigned": auto_augment.Operation(note("unsigned"), 4, 6),
    }
    monkeypatch.setattr(auto_augment, "OPERATIONS", operations)
    return asked


def test_randaugment_gives_every_operation_the_one_magnitude(strengths):
    a = Augmentation(policy="randaugment", num_ops=3, magnitude=7.5)
    rng = np.random.default_rng(0)
    for _ in range(400):
        augment(noise(8, 8), rng, a, square(8))
    signed, unsigned = strengths["signed"], strengths["unsigned"]
    assert len(signed) + len(unsigned) == 1200
    assert len(signed) == pytest.approx(600, abs=80)  # more than four standard deviations
    assert set(signed) == {-1.0, 1.0}  # 7.5 / 30 of half of 8 pixels
    assert signed.count(-1.0) == pytest.approx(len(signed) / 2, abs=55)
    assert set(unsigned) == {1.0}


def test_trivialaugment_draws_one_operation_and_its_magnitude(strengths):
    rng, a = np.random.default_rng(0), Augmentation(policy="trivialaugment")
    for _ in range(1500):
        augment(noise(4, 4), rng, a, square(4))
    assert len(strengths["signed"]) + len(strengths["unsigned"]) == 1500
    assert set(strengths["signed"]) == {float(2 * level) for level in range(-30, 31)}
    assert set(strengths["unsigned"]) == {round(0.2 * level, 6) for level in range(31)}
    assert np.mean(strengths["unsigned"]) == pytest.approx(3.0, abs=0.3)


def test_every_operation_is_drawn_as_often():
    rng = np.random.default_rng(0)
    operations = list(auto_augment.OPERATIONS.values())
    counts = np.bincount([operations.index(auto_augment._draw(rng)[0]) for _ in range(14 * 400)])
    assert len(counts) == 14
    np.testing.assert_allclose(counts, 400, atol=80)
