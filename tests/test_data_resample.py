import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from tl.data import resample
from tl.data.transforms import INTERPOLATIONS


def test_enlarging_two_pixels_by_hand():
    # Centres of the four results at -1/4, 1/4, 3/4, 5/4 pixels (in units of input pixels).
    unit = 1 << resample.PRECISION_BITS
    expected = np.array([[1, 0.75, 0.25, 0], [0, 0.25, 0.75, 1]]) * unit
    assert np.array_equal(resample.weights(2, 4, "bilinear"), expected)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_columns_add_up_to_one_and_equal_sizes_change_nothing(interpolation):
    unit = 1 << resample.PRECISION_BITS
    for length, resized in ((5, 13), (13, 5), (1, 4), (100, 7)):
        columns = resample.weights(length, resized, interpolation).sum(axis=0)
        assert np.abs(columns - unit).max() <= length
    assert np.array_equal(resample.weights(6, 6, interpolation), np.eye(6) * unit)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("axis", [1, 2])
def test_one_axis_is_resampled_as_pillow_does(interpolation, axis):
    image = np.random.default_rng(0).integers(0, 256, (7, 7, 3), np.uint8)
    for side in (3, 13):
        shape = (7, side) if axis == 2 else (side, 7)
        expected = Image.fromarray(image).resize(shape[::-1], INTERPOLATIONS[interpolation])
        matrix = resample.weights(7, side, interpolation)
        found = resample.resample(jnp.asarray(image[None], jnp.float32), matrix, axis)
        np.testing.assert_array_equal(found[0], np.asarray(expected))
