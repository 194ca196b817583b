import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest
from jaxtyping import Float, TypeCheckError

from tests.typechecker import checked
from tl.data import transforms
from tl.weights.spec import Preprocessing

Rows = dict[str, Float[np.ndarray, "n d"]]


@checked
def plain(count: int, rate: float = 0.5) -> str:
    return "x" * count if rate else count


@checked
def product(x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "d m"]) -> Float[np.ndarray, "n m"]:
    return x @ y if x.sum() else y


@checked
def rows(x: Rows, count: int) -> Float[np.ndarray, "{count} d"]:
    return x["x"]


@checked
def each(x: Float[np.ndarray, "n d"]) -> Iterator[float]:
    yield from x[0]


@checked
@dataclasses.dataclass
class Point:
    x: float
    y: Float[np.ndarray, " n"] | None = None

    @property
    @checked
    def size(self) -> int:
        return self.x


@checked
class Nothing:
    pass


def test_what_fits_passes():
    assert plain(np.int64(2), 1) == "xx"
    assert product(np.ones((2, 3)), np.ones((3, 4))).shape == (2, 4)
    assert product(np.ones((1, 2)), np.ones((2, 1))).shape == (1, 1)  # other lengths another time
    assert rows({"x": np.ones((2, 3))}, 2).shape == (2, 3)
    assert list(each(np.ones((1, 2)))) == [1, 1]
    assert Point(1, np.ones(3)).size == 1
    assert plain.__name__ == "plain" and isinstance(Nothing(), Nothing)


@pytest.mark.parametrize(
    "call",
    [
        lambda: plain("2"),
        lambda: plain(2, rate="1"),
        lambda: plain(2, 0),  # the result
        lambda: product(np.ones((2, 3)), np.ones((4, 3))),
        lambda: product(np.ones((2, 3), np.int32), np.ones((3, 4))),
        lambda: product(np.zeros((2, 3)), np.ones((3, 4))),  # the result
        lambda: rows({"x": np.ones(2)}, 2),
        lambda: rows({"x": np.ones((2, 3))}, 3),  # the result
        lambda: each(np.ones(3)),
        lambda: Point("1"),
        lambda: Point(1, np.ones((3, 3))),
        lambda: Point(1.5).size,  # the result
    ],
)
def test_what_does_not_fit_is_refused(call):
    with pytest.raises(TypeCheckError):
        call()


def test_functions_inside_functions_are_not_checked():
    @checked
    def inner(count: int) -> int:
        return count

    assert inner("x") == "x"


def test_tl_is_checked():
    with pytest.raises(TypeCheckError):
        transforms.host_transform(np.ones((3, 4, 1), np.uint8), Preprocessing())
