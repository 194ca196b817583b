import dataclasses

import numpy as np
import pytest

from tl.errors import UserError
from tl.results import arrays


@dataclasses.dataclass
class Kind:
    values: np.ndarray
    name: str
    later: int = 7


def test_what_is_written_is_what_is_read(tmp_path):
    path = tmp_path / "a.npz"
    assert arrays.load(path, Kind) is None
    arrays.save(path, vars(Kind(np.array([[1, 2]], np.int8), "stage4", 3)))
    read = arrays.load(path, Kind)
    assert (read.name, read.later) == ("stage4", 3)
    assert read.values.dtype == np.int8 and read.values.tolist() == [[1, 2]]
    assert [file.name for file in tmp_path.iterdir()] == ["a.npz"]


def test_a_file_older_than_a_field_has_its_default(tmp_path):
    np.savez(tmp_path / "a.npz", values=np.zeros(2), name="x")
    assert arrays.load(tmp_path / "a.npz", Kind).later == 7


def test_a_file_that_lacks_a_field_is_damaged(tmp_path):
    np.savez(tmp_path / "a.npz", values=np.zeros(2))
    with pytest.raises(UserError, match=r"a\.npz is damaged \(KeyError: .*name.*\); restore it"):
        arrays.load(tmp_path / "a.npz", Kind)


def test_text_is_no_archive(tmp_path):
    (tmp_path / "a.npz").write_text("values")
    with pytest.raises(UserError, match=r"a\.npz is damaged \(\w+: .*with --overwrite$"):
        arrays.load(tmp_path / "a.npz", Kind)
