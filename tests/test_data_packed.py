"""What damaged and foreign packs are answered with; how they are written is in test_data_pack."""

import json

import numpy as np
import pytest

from tests.toy import NoiseSource
from tl.data import pack, packed, sources
from tl.data.packed import Pack
from tl.data.sources import Data
from tl.errors import UserError


@pytest.fixture
def folder(tmp_path):
    pack.write({"train": NoiseSource(9), "test": NoiseSource(4, split="test")}, tmp_path / "pack")
    return tmp_path / "pack"


def test_the_path_alone_tells_what_it_is(folder):
    assert packed.is_pack(folder) and not packed.is_pack(folder.parent)
    for name in ("folder", "pack"):
        opened = sources.open_sources(Data(name, str(folder)))
        assert {part: len(source) for part, source in opened.items()} == {"train": 9, "test": 4}
    source = sources.open_source(Data("folder", str(folder)), "test")
    assert isinstance(source, sources.Source) and isinstance(source, sources.Placed)
    assert (source.split, len(source)) == ("test", 4)
    with pytest.raises(UserError, match=r"has no split 'hold'"):
        sources.open_sources(Data("folder", str(folder), test="hold"))
    with pytest.raises(UserError, match=r"data.group_pattern: such data have no groups by it"):
        sources.open_sources(Data("folder", str(folder), group_pattern="(a)"))


def test_rows_in_any_order_and_a_subset(folder):
    source = Pack(folder).open({"train": "train"})["train"]
    expected = [NoiseSource(9)[row] for row in range(9)]
    rows = [8, 0, 3, 3]
    for example, row in zip(source.examples(rows), rows, strict=True):
        np.testing.assert_array_equal(example["image"], expected[row]["image"])
        assert (example["id"], example["label"]) == (f"id{row}", row % 3)
    part = source.subset(np.array([7, 2]), "held").subset(np.array([1]), "one")
    assert (len(part), part.split, part[0]["id"], part.labels().tolist()) == (1, "one", "id2", [2])
    assert part.places().tolist() == [2]
    assert Pack(folder).open({"test": "test"})["test"].places().tolist() == [9, 10, 11, 12]
    versions = {s.version for s in (source, part, source.subset(np.array([2]), "x"))}
    assert len(versions) == 3 - (part.version == source.subset(np.array([2]), "x").version)
    assert source.version == "1" != part.version


def test_a_shard_that_is_gone_or_cut(folder):
    shard = folder / "train-00000.array_record"
    data = shard.read_bytes()
    shard.write_bytes(data[:-1])
    message = f"is not whole: expected {len(data):,} bytes, got {len(data) - 1:,}; copy the pack"
    with pytest.raises(UserError, match=message):
        Pack(folder)
    shard.unlink()
    with pytest.raises(UserError, match=r"train-00000.array_record of a pack cannot be read: No"):
        Pack(folder)


def test_a_shard_whose_bytes_have_changed(folder):
    shard = folder / "train-00000.array_record"
    shard.write_bytes(b"x" * shard.stat().st_size)
    source = Pack(folder).open({"train": "train"})["train"]
    with pytest.raises(UserError, match=r"the pack's images 2 to 2 of train cannot be read .*hash"):
        source[2]


def test_an_index_that_is_gone_or_has_changed(folder):
    index = folder / "train.parquet"
    index.write_bytes(index.read_bytes()[:-1] + b"x")
    with pytest.raises(UserError, match=r"train.parquet of a pack is damaged; copy the pack anew"):
        Pack(folder).open({"train": "train"})
    index.unlink()
    with pytest.raises(UserError, match=r"train.parquet of a pack cannot be read: No such file"):
        Pack(folder).open({"train": "train"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 2}, "is a pack of schema 2, expected 1; read it with the version of tl"),
        ({"format": "other"}, "is no pack, for pack.json is not there or damaged"),
        ({"parts": [1]}, "pack.json is damaged: AttributeError"),
        ({"parts": {"train": {"name": "a"}}}, "pack.json is damaged: KeyError"),
    ],
)
def test_another_description(folder, change, message):
    file = folder / packed.DESCRIPTION
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(UserError, match=message):
        Pack(folder)


def test_a_description_that_is_cut(folder):
    file = folder / packed.DESCRIPTION
    file.write_text(file.read_text()[:50])
    with pytest.raises(UserError, match=r"is no pack, for pack.json is not there or damaged"):
        Pack(folder)


def test_a_part_is_what_json_gives_back(folder):
    fields = json.loads((folder / packed.DESCRIPTION).read_text())["parts"]["test"]
    part = packed.Part.of_json(fields)
    assert (part.images, part.classes, part.image_shape) == (4, ("a", "b", "c"), (4, 4, 3))
    assert part.shards == (
        packed.Shard("test-00000.array_record", 4, fields["shards"][0]["bytes"]),
    )
