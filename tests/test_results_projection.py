import numpy as np
import pytest

from tl.results import projection
from tl.results.projection import load_features, project, save_features, spaced_rows


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


@pytest.mark.parametrize("count", [1, 2, 999, 1000, 1001, 10_000])
def test_spaced_rows(count):
    rows = spaced_rows(count)
    assert rows.dtype == np.int64
    assert len(rows) == min(count, 1000)
    assert (rows[0], rows[-1]) == (0, count - 1)
    steps = np.diff(rows)
    assert all(count // 1000 <= step <= count // 1000 + 1 for step in steps)
    assert (steps > 0).all()


def test_features_on_a_line(tmp_path):
    # Along (3, 4), at -2, 0 and 2 from the middle: one coordinate has it all.
    features = np.array([[4.0, 7.0], [7.0, 11.0], [10.0, 15.0]])
    rows = np.array([0, 5, 10])
    projection = project(features, rows, "stage4", standardise=False)
    assert np.abs(projection.coordinates[:, 0]).tolist() == pytest.approx([5, 0, 5], abs=1e-5)
    assert projection.explained.tolist() == pytest.approx([1, 0], abs=1e-6)
    save_features(tmp_path, projection)
    read = load_features(tmp_path)
    assert read.endpoint == "stage4"
    assert read.rows.tolist() == [0, 5, 10]
    assert read.coordinates.dtype == read.explained.dtype == np.float32
    np.testing.assert_array_equal(read.coordinates, projection.coordinates)


def test_standardised_features_weigh_the_same():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(200, 2)) * [1000.0, 1.0]
    plain = project(features, np.arange(200), "e", standardise=False)
    standardised = project(features, np.arange(200), "e", standardise=True)
    assert plain.explained[0] > 0.99
    assert standardised.explained[0] < 0.6


@pytest.mark.parametrize(
    ("rows", "width", "count"), [(1, 3, 1), (2, 3, 1), (4, 3, 3), (70, 80, 50)]
)
def test_features_of_awkward_sizes(rows, width, count):
    features = np.random.default_rng(0).normal(size=(rows, width))
    projection = project(features, np.arange(rows), "e", standardise=True)
    assert projection.coordinates.shape == (rows, count)
    assert projection.explained.shape == (count,)
    assert np.isfinite(projection.coordinates).all()
    assert (np.diff(projection.explained) <= 1e-6).all()


def test_features_that_do_not_vary():
    projection = project(np.ones((5, 4)), np.arange(5), "e", standardise=True)
    assert projection.coordinates.tolist() == [[0.0]] * 5
    assert projection.explained.tolist() == [0.0]
