import dataclasses
import math

import numpy as np
import pytest
from PIL import Image

from configs import common
from tl.data import augment as augment_lib
from tl.data import transforms
from tl.data.augment import Augmentation, augment
from tl.errors import UserError
from tl.train.mixing import Mixing
from tl.weights.spec import Preprocessing

EVERYTHING = {
    "shift": 0.2,
    "flip": 0.5,
    "policy": "randaugment",
    "jitter": (0.4, 0.4, 0.4, 0.1),
    "erase": 0.5,
}


def square(size, **fields):
    return Preprocessing(size=size, geometry="whole", **fields)


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def grey(rows):
    return np.repeat(np.asarray(rows, np.uint8)[:, :, None], 3, axis=2)


def resized(image, side):
    height = image.shape[0]
    picture = Image.fromarray(image).resize((side, height), Image.Resampling.BILINEAR)
    return np.asarray(picture.resize((side, side), Image.Resampling.BILINEAR))


class Scripted(np.random.Generator):
    """A generator whose draws are given; it notes what they were drawn from."""

    def __init__(self, **draws):
        super().__init__(np.random.PCG64())
        self.draws = {name: list(values) for name, values in draws.items()}
        self.ranges = []

    def _draw(self, name, *bounds):
        self.ranges.append((name, *bounds))
        return self.draws[name].pop(0)

    def uniform(self, *bounds):
        return self._draw("uniform", *bounds)

    def integers(self, *bounds, **_):
        return self._draw("integers", *bounds)

    def permutation(self, *bounds):
        return self._draw("permutation", *bounds)


# The whole


def test_the_defaults_are_those_of_the_config_and_change_nothing():
    fields = common.get_config().augment.to_dict()
    mixing = {name: fields.pop(name) for name in ("mixup", "cutmix")}
    assert Augmentation(**fields) == Augmentation()
    assert Mixing(**mixing) == Mixing()
    assert fields.keys() == {field.name for field in dataclasses.fields(Augmentation)}
    assert not Augmentation().active
    p = Preprocessing(size=8)
    image = noise(15, 11)
    out = augment(image, np.random.default_rng(0), Augmentation(), p)
    np.testing.assert_array_equal(out, transforms.host_transform(image, p))


@pytest.mark.parametrize(
    ("fields", "active"),
    [
        ({"crop": "resized"}, True),
        ({"crop": "random"}, True),
        ({"shift": 0.2}, True),
        ({"flip": 0.5}, True),
        ({"policy": "trivialaugment"}, True),
        ({"jitter": (0, 0, 0, 0.1)}, True),
        ({"erase": 0.1}, True),
        ({"scale": (0.5, 1.0), "ratio": (1, 1), "resize": 9}, False),
        ({"num_ops": 5, "magnitude": 30}, False),
    ],
)
def test_active_says_whether_an_image_may_change(fields, active):
    a = Augmentation(**fields)
    assert a.active is active
    p, image = square(8), noise(8, 8)
    outs = [augment(image, np.random.default_rng(seed), a, p) for seed in range(40)]
    assert any((out != image).any() for out in outs) is active


@pytest.mark.parametrize("crop", augment_lib.CROPS)
@pytest.mark.parametrize("policy", ["randaugment", "trivialaugment"])
def test_the_generator_decides_everything(crop, policy):
    a, p = Augmentation(crop=crop, **(EVERYTHING | {"policy": policy})), Preprocessing(size=16)
    image = noise(30, 40)
    before = image.copy()
    outs = [augment(image, np.random.default_rng(seed), a, p) for seed in (0, 0, *range(1, 9))]
    np.testing.assert_array_equal(outs[0], outs[1])
    assert len({out.tobytes() for out in outs}) == 9
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("size", [1, 2, 7])
@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1), (2, 3)])
@pytest.mark.parametrize("crop", augment_lib.CROPS)
def test_tiny_images(shape, crop, size):
    for policy in augment_lib.POLICIES:
        a = Augmentation(crop=crop, **(EVERYTHING | {"policy": policy, "erase": 1.0}))
        for seed in range(10):
            out = augment(noise(*shape), np.random.default_rng(seed), a, Preprocessing(size=size))
            assert out.shape == (size, size, 3)
            assert out.dtype == np.uint8
            assert out.flags.c_contiguous


@pytest.mark.parametrize("geometry", transforms.GEOMETRIES)
def test_the_order_of_the_networks_channels_changes_nothing_but_the_erased(geometry):
    fields = {"size": 8, "geometry": geometry, "interpolation": "bicubic"}
    rgb = Preprocessing(mean=(10.4, 20.6, 30.0), channels="RGB", **fields)
    bgr = Preprocessing(mean=(30.0, 20.6, 10.4), channels="BGR", **fields)
    a = Augmentation(crop="resized", **EVERYTHING)
    for seed in range(20):
        outs = [augment(noise(9, 9), np.random.default_rng(seed), a, p) for p in (rgb, bgr)]
        np.testing.assert_array_equal(*outs)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"crop": "resize"},
            r"^augment.crop: there is no crop 'resize'; the nearest are 'resi",
        ),
        (
            {"policy": "rand"},
            r"^augment.policy: there is no policy 'rand'; the nearest are 'ra",
        ),
        ({"scale": (0.0, 1.0)}, r"^augment.scale: expected the least and .* got \(0.0, 1.0\)"),
        ({"scale": (0.5, 0.2)}, "^augment.scale: expected "),
        ({"scale": (0.5, 1.2)}, "^augment.scale: expected "),
        ({"scale": (0.5,)}, "^augment.scale: expected "),
        ({"ratio": (2.0, 1.0)}, r"^augment.ratio: expected the least and the largest width"),
        ({"ratio": (1.0, math.inf)}, "^augment.ratio: expected "),
        ({"resize": -1}, r"^augment.resize: expected a side in pixels, or 0 .*; got -1"),
        ({"shift": 1.1}, r"^augment.shift: expected a share of the side, in \[0, 1\]; got 1.1"),
        ({"flip": -0.1}, r"^augment.flip: expected a probability, in \[0, 1\]; got -0.1"),
        ({"flip": math.nan}, "^augment.flip: expected "),
        ({"num_ops": 0}, "^augment.num_ops: expected at least 1; got 0"),
        ({"magnitude": 31}, r"^augment.magnitude: expected in \[0, 30\]; got 31"),
        ({"jitter": (0.4, 0.4, 0.4)}, r"^augment.jitter: expected brightness, contrast, satur"),
        ({"jitter": (-1, 0, 0, 0)}, "^augment.jitter: expected "),
        ({"jitter": (0, math.nan, 0, 0)}, "^augment.jitter: expected "),
        ({"jitter": (0, 0, 0, 0.6)}, "hue at most 0.5; got"),
        ({"erase": 2}, r"^augment.erase: expected a probability, in \[0, 1\]; got 2"),
    ],
)
def test_values_that_cannot_be_used_are_named(fields, message):
    with pytest.raises(UserError, match=message):
        Augmentation(**fields)


# Crops


def test_a_rectangle_by_hand():
    # 100 x 200 pixels, a quarter of the area is 5000: 50 x 100 where it is twice as wide as high.
    # Half of the area at that aspect would be 70.7 x 141.4; at aspect 4, 50 x 200.
    rng = Scripted(uniform=[0.25, math.log(2)], integers=[7, 30])
    assert augment_lib._rectangle(rng, 100, 200, (0.08, 1.0), (0.75, 2.5)) == (
        slice(7, 57),
        slice(30, 130),
    )
    assert rng.ranges == [
        ("uniform", 0.08, 1.0),
        ("uniform", math.log(0.75), math.log(2.5)),
        ("integers", 51),
        ("integers", 101),
    ]
    rng = Scripted(uniform=[1.0, 0.0, 0.5, math.log(2)], integers=[29, 0])
    assert augment_lib._rectangle(rng, 100, 200, (0.5, 1.0), (1, 2)) == (
        slice(29, 100),  # the first draw, 141 x 141, is too high
        slice(0, 141),
    )


def test_ten_draws_that_do_not_fit_end_in_the_centre():
    rng = Scripted(uniform=[1.0, 0.0] * 10)
    assert augment_lib._rectangle(rng, 100, 200, (1, 1), (1, 1)) is None
    image = noise(10, 21)
    a = Augmentation(crop="resized", scale=(1, 1), ratio=(1, 1))
    out = augment(image, np.random.default_rng(0), a, square(7))
    np.testing.assert_array_equal(out, resized(image[:, 5:15], 7))


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((100, 300), (0, 100, 83, 133)),
        ((300, 100), (83, 133, 0, 100)),
        ((90, 100), (0, 90, 0, 100)),
        ((3, 4), (0, 3, 0, 4)),
        ((1, 5), (0, 1, 2, 1)),
        ((5, 1), (2, 1, 0, 1)),
    ],
)
def test_the_central_rectangle_by_hand(shape, expected):
    rows, columns = augment_lib._centre(*shape, (0.75, 4 / 3))
    top, height, left, width = expected
    assert (rows, columns) == (slice(top, top + height), slice(left, left + width))


def test_rectangles_are_spread_as_asked():
    rng = np.random.default_rng(0)
    draws = [augment_lib._rectangle(rng, 400, 400, (0.1, 0.4), (0.5, 2.0)) for _ in range(2000)]
    top, h, left, w = np.array([(r.start, r.stop - r.start, c.start, c.stop - c.start)
                                for r, c in draws]).T  # fmt: skip
    share, aspect = h * w / 400**2, np.log2(w / h)
    assert 0.099 < share.min() < 0.105
    assert 0.395 < share.max() < 0.402
    assert share.mean() == pytest.approx(0.25, abs=0.01)
    assert np.abs(aspect).max() == pytest.approx(1.0, abs=0.02)
    assert aspect.mean() == pytest.approx(0.0, abs=0.05)
    assert np.var(aspect) == pytest.approx(4 / 12, rel=0.1)  # of a uniform on [-1, 1]
    for start, length in ((top, h), (left, w)):
        place = start / (400 - length)
        assert place.mean() == pytest.approx(0.5, abs=0.03)
        assert (place.min(), place.max()) == pytest.approx((0, 1), abs=0.01)


@pytest.mark.parametrize(("side", "size"), [(12, 7), (7, 12), (7, 7)])
def test_a_resized_crop_of_everything_is_the_image_resized(side, size):
    image = noise(side, side)
    a = Augmentation(crop="resized", scale=(1, 1), ratio=(1, 1))
    out = augment(image, np.random.default_rng(0), a, Preprocessing(size=size))
    np.testing.assert_array_equal(out, resized(image, size))


@pytest.mark.parametrize(
    ("resize", "p"), [(6, square(4)), (0, Preprocessing(size=4, crop_pct=4 / 6))]
)
def test_a_random_crop_takes_every_square_of_the_squashed_image(resize, p):
    image = noise(9, 13)
    whole = resized(image, 6)
    squares = {
        whole[top : top + 4, left : left + 4].tobytes() for top in range(3) for left in range(3)
    }
    rng, a = np.random.default_rng(0), Augmentation(crop="random", resize=resize)
    assert {augment(image, rng, a, p).tobytes() for _ in range(100)} == squares


def test_a_random_crop_of_its_own_size_is_the_whole_image():
    a = Augmentation(crop="random", resize=8)
    out = augment(noise(9, 13), np.random.default_rng(0), a, square(8))
    np.testing.assert_array_equal(out, resized(noise(9, 13), 8))


def test_a_square_that_does_not_fit_names_the_fields():
    a = Augmentation(crop="random", resize=7)
    message = r"^augment.resize: expected 0 or at least 8, .*`preprocess.size`\); got 7"
    with pytest.raises(UserError, match=message):
        augment(noise(9, 9), np.random.default_rng(0), a, square(8))


# Moves


def test_a_shift_moves_every_pixel_and_repeats_the_edge():
    image = grey(np.arange(64).reshape(8, 8))
    moves = set()
    for seed in range(300):
        out = augment(image, np.random.default_rng(seed), Augmentation(shift=0.25), square(8))
        ((row,), (column,)) = np.nonzero(out[:, :, 0] == 8 * 3 + 3)
        down, right = row - 3, column - 3
        moves.add((down, right))
        padded = np.pad(image, ((2, 2), (2, 2), (0, 0)), mode="edge")
        np.testing.assert_array_equal(out, padded[2 - down :, 2 - right :][:8, :8])
    assert moves == {(down, right) for down in range(-2, 3) for right in range(-2, 3)}


def test_a_share_written_in_decimals_reaches_its_pixel():
    rng = Scripted(integers=[(29, 0)])  # 0.29 * 100 is 28.999999999999996
    out = augment(grey(np.eye(100)), rng, Augmentation(shift=0.29), square(100))
    assert rng.ranges == [("integers", -29, 29)]
    assert out[99, 70, 0] == 1


def test_a_certain_flip_reverses_and_a_rare_one_is_as_rare_as_asked():
    image = noise(4, 4)
    out = augment(image, np.random.default_rng(0), Augmentation(flip=1.0), square(4))
    np.testing.assert_array_equal(out, image[:, ::-1])
    rng, a = np.random.default_rng(0), Augmentation(flip=0.3)
    flipped = [(augment(image, rng, a, square(4)) != image).any() for _ in range(4000)]
    assert np.mean(flipped) == pytest.approx(0.3, abs=0.03)  # four standard deviations


# Colours


def test_jitter_keeps_its_range_and_reaches_it():
    image = grey([[100]])
    for strength, low, high in ((0.4, 60, 140), (1.5, 0, 250)):
        a = Augmentation(jitter=(strength, 0, 0, 0))
        outs = [augment(image, np.random.default_rng(seed), a, square(1)) for seed in range(300)]
        assert low <= np.min(outs) <= low + 3
        assert high - 3 <= np.max(outs) <= high


@pytest.mark.parametrize(
    # Contrast 2 about the mean 100 makes (50, 150) of it (0, 200); brightness 0.5 halves.
    ("order", "expected"),
    [((0, 1, 2, 3), (0, 100)), ((1, 3, 0, 2), (0, 100)), ((2, 0, 3, 1), (0, 100))],
)
def test_jitter_by_hand_in_any_order(order, expected):
    factors = {0: 0.5, 1: 2.0}
    rng = Scripted(permutation=[order], uniform=[factors[i] for i in order if i in factors])
    a = Augmentation(jitter=(0.5, 1.0, 0, 0))
    out = augment(grey([[50, 150]] * 2), rng, a, square(2))
    np.testing.assert_array_equal(out, grey([expected] * 2))
    bounds = {0: ("uniform", 0.5, 1.5), 1: ("uniform", 0.0, 2.0)}
    assert rng.ranges[1:] == [bounds[i] for i in order if i in bounds]


def test_hue_turns_red_to_green_and_leaves_grey():
    image = np.array([[[255, 0, 0], [90, 90, 90]]] * 2, np.uint8)
    rng = Scripted(permutation=[range(4)], uniform=[1 / 3])
    out = augment(image, rng, Augmentation(jitter=(0, 0, 0, 0.5)), square(2))
    np.testing.assert_array_equal(out, [[[0, 255, 0], [90, 90, 90]]] * 2)
    assert rng.ranges[1:] == [("uniform", -0.5, 0.5)]
    # Two thirds of 255 back, and modulo 256: 86, a hair beyond green.
    out = augment_lib._turn_hue(Image.fromarray(image), -2 / 3)
    np.testing.assert_array_equal(np.asarray(out)[0], [[0, 255, 6], [90, 90, 90]])


@pytest.mark.parametrize("channels", ["RGB", "BGR"])
def test_a_rectangle_becomes_the_mean_colour(channels):
    mean = (10.4, 20.6, 30.0) if channels == "RGB" else (30.0, 20.6, 10.4)
    p, white = square(20, mean=mean, channels=channels), np.full((20, 20, 3), 255, np.uint8)
    shares = []
    for seed in range(400):
        out = augment(white, np.random.default_rng(seed), Augmentation(erase=1.0), p)
        rows, columns = np.nonzero((out != 255).any(axis=2))
        erased = out[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert (erased == (10, 21, 30)).all()
        assert rows.size == erased.shape[0] * erased.shape[1]
        shares.append(rows.size / 400)
    assert 0.01 < min(shares) < 0.04
    assert 0.29 < max(shares) < 0.36
    assert np.mean(shares) == pytest.approx(0.175, abs=0.02)


def test_erasing_is_as_rare_as_asked():
    white = np.full((8, 8, 3), 255, np.uint8)
    rng, a = np.random.default_rng(0), Augmentation(erase=0.25)
    erased = [(augment(white, rng, a, square(8)) != 255).any() for _ in range(2000)]
    assert np.mean(erased) == pytest.approx(0.25, abs=0.04)


def test_what_is_decoded_smaller_is_what_the_whole_image_is_resized_to():
    p = dataclasses.replace(Preprocessing(), size=14, crop_pct=0.875, draft=True)
    assert augment_lib.seen(Augmentation(flip=1.0), p) == p
    assert augment_lib.seen(Augmentation(crop="resized"), p) is None
    squashed = dataclasses.replace(p, size=16, geometry="whole")  # 14 / 0.875
    assert augment_lib.seen(Augmentation(crop="random"), p) == squashed
    larger = augment_lib.seen(Augmentation(crop="random", resize=20), p)
    assert larger == dataclasses.replace(squashed, size=20)
