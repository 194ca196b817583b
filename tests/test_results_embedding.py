import numpy as np
import pytest

from tl.results import embedding as projection


def clusters(count=60, width=5):
    labels = np.arange(count) % 3
    rng = np.random.default_rng(0)
    return (10 * np.eye(width)[labels] + rng.normal(size=(count, width))).astype(np.float32), labels


def test_pca_is_the_first_two_coordinates():
    coordinates = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert projection.pca(coordinates).tolist() == [[0, 1], [4, 5], [8, 9]]
    assert projection.pca(coordinates[:, :1]).tolist() == [[0, 0], [4, 0], [8, 0]]


def test_tsne_keeps_neighbours_and_repeats():
    coordinates, labels = clusters()
    found = projection.tsne(coordinates)
    assert found.shape == (60, 2)
    distance = np.linalg.norm(found[:, None] - found[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    assert (labels[distance.argmin(axis=1)] == labels).all()
    np.testing.assert_array_equal(projection.tsne(coordinates), found)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_too_few_points_stay_where_they_are(count):
    coordinates, _ = clusters(count)
    assert projection.tsne(coordinates).tolist() == projection.pca(coordinates).tolist()


@pytest.mark.parametrize(("count", "width"), [(4, 5), (10, 1), (10, 3)])
def test_awkward_sizes(count, width):
    found = projection.tsne(clusters(count, max(width, 3))[0][:, :width])
    assert found.shape == (count, 2)
    assert np.isfinite(found).all()


def test_one_point_many_times():
    assert projection.tsne(np.ones((6, 3))).tolist() == [[1, 1]] * 6
