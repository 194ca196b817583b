import gc
import itertools
import json
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from tests import toy
from tl.data import loader
from tl.errors import UserError


class Counting(toy.Source):
    """Row i is a 2 x 2 image of the value i, with label i % 3; row `broken` is a user's mistake."""

    def __init__(self, size, broken=None, odd=None):
        super().__init__(size)
        self.broken, self.odd, self.read = broken, odd, 0

    def __getitem__(self, row):
        self.read += 1
        if row == self.broken:
            raise UserError(f"the image row-{row}.jpg cannot be decoded")
        side = 3 if row == self.odd else 2
        image = np.full((side, side, 3), row % 256, np.uint8)
        return {"image": image, "label": row % 3, "id": f"row-{row}"}


def visited(**options):
    batches = list(loader.batches(Counting(101), 8, **options))
    return np.concatenate([batch["index"][batch["mask"]] for batch in batches])


@pytest.mark.parametrize("threads", [0, 1, 3])
@pytest.mark.parametrize("size", [1, 7, 8, 9, 97])
def test_every_row_once_and_the_last_batch_padded(size, threads):
    batches = list(loader.batches(Counting(size), 8, threads=threads))
    assert len(batches) == -(-size // 8)
    for batch in batches:
        assert batch["image"].shape == (8, 2, 2, 3) and batch["image"].dtype == np.uint8
        assert batch["label"].dtype == np.int32 and batch["index"].dtype == np.int64
        assert batch["mask"].dtype == bool and len(batch["id"]) == 8
    index, label, mask = (
        np.concatenate([b[key] for b in batches]) for key in ("index", "label", "mask")
    )
    ids = [id_ for b in batches for id_ in b["id"]]
    assert index[mask].tolist() == list(range(size))
    assert label[mask].tolist() == [row % 3 for row in range(size)]
    assert ids[:size] == [f"row-{row}" for row in range(size)]
    assert (index[~mask] == -1).all() and (label[~mask] == -1).all() and not any(ids[size:])
    pixels = np.concatenate([b["image"] for b in batches])
    assert (pixels[mask] == index[mask, None, None, None]).all() and not pixels[~mask].any()


def test_chosen_rows_keep_their_order():
    rows = [5, 0, 5, 99]
    (batch,) = loader.batches(Counting(100), 4, indices=rows)
    assert batch["index"].tolist() == rows and batch["label"].tolist() == [2, 0, 2, 0]


@pytest.mark.parametrize("size", [1, 8, 9, 15, 30])
@pytest.mark.parametrize("processes", [2, 4])
def test_the_processes_shares_of_batches_are_the_batches(size, processes):
    """Also where padding is all that falls to a process: its part has the shape of the others'."""
    whole = list(loader.batches(Counting(size), 8))
    shares = [
        list(loader.batches(Counting(size), 8, share=(i, processes), threads=i))
        for i in range(processes)
    ]
    for batch, *parts in zip(whole, *shares, strict=True):
        for name in ("image", "label", "index", "mask"):
            side_by_side = np.concatenate([part[name] for part in parts])
            np.testing.assert_array_equal(side_by_side, batch[name])
        assert [id_ for part in parts for id_ in part["id"]] == batch["id"]


def test_batches_that_processes_cannot_share_are_refused():
    with pytest.raises(ValueError, match="a batch of a multiple of 3, got 8"):
        next(loader.batches(Counting(8), 8, share=(0, 3)))


def test_no_rows():
    assert list(loader.batches(Counting(5), 4, indices=[])) == []


def test_the_order_follows_from_seed_and_epoch():
    first = visited(shuffle_seed=1, epoch=0, threads=3)
    assert sorted(first) == list(range(101)) and list(first) != list(range(101))
    assert np.array_equal(first, visited(shuffle_seed=1, epoch=0, threads=0))
    others = [visited(shuffle_seed=s, epoch=e) for s, e in ((1, 1), (2, 0), (0, 1))]
    for other in others:
        assert sorted(other) == list(range(101))
        assert not np.array_equal(first, other)
    # Not the neighbours' orders under other names: seed 0's epoch 1 is not seed 1's epoch 0.
    assert not np.array_equal(others[0], others[1])


def test_the_transform_runs_on_every_image_in_the_threads():
    names = set()

    def double(image):
        names.add(threading.current_thread().name)
        return image[:1] * 2

    (batch,) = loader.batches(Counting(4), 4, transform=double, threads=2)
    assert batch["image"].shape == (4, 1, 2, 3)
    assert batch["image"][:, 0, 0, 0].tolist() == [0, 2, 4, 6]
    assert threading.current_thread().name not in names


def test_images_of_several_sizes_need_a_transform():
    with pytest.raises(UserError, match=r"share one shape.*\(2, 2, 3\), \(3, 3, 3\).*transform"):
        list(loader.batches(Counting(10, odd=4), 10))
    crop = {"transform": lambda image: image[:2, :2]}
    assert len(list(loader.batches(Counting(10, odd=4), 10, **crop))) == 1


@pytest.mark.parametrize("threads", [0, 2])
def test_a_users_mistake_in_a_thread_reaches_the_caller_as_it_is(threads):
    iterator = loader.batches(Counting(500, broken=300), 10, threads=threads)
    seen = 0
    with pytest.raises(UserError, match=r"^the image row-300.jpg cannot be decoded$"):
        for batch in iterator:
            seen += batch["mask"].sum()
    assert seen <= 300


def test_a_batch_without_rows_is_refused():
    with pytest.raises(UserError, match="at least 1; got 0"):
        next(loader.batches(Counting(3), 0))


def test_about_one_batch_is_loaded_ahead():
    source = Counting(100_000)
    iterator = loader.batches(source, 64, threads=2)
    next(iterator)
    time.sleep(0.2)
    assert source.read <= 64 + 64 + 3 * 32
    iterator.close()


def test_dropping_the_iterator_stops_the_threads():
    def loading():
        return [t for t in threading.enumerate() if t.name.startswith("grain-prefetch")]

    gc.collect()
    before = len(loading())
    iterator = loader.batches(Counting(10_000), 4, threads=3)
    next(iterator)
    assert len(loading()) > before
    del iterator
    gc.collect()
    deadline = time.monotonic() + 5
    while len(loading()) > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(loading()) <= before


def test_a_plain_script_that_stops_early_ends_at_once_and_prints_nothing():
    script = (
        "from tests.test_data_loader import Counting\n"
        "from tl.data import loader\n"
        "iterator = loader.batches(Counting(100_000), 8, threads=4)\n"
        "print(next(iterator)['index'].tolist())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "[0, 1, 2, 3, 4, 5, 6, 7]\n"
    assert done.stderr == ""


class TestStream:
    ROWS = np.array([2, 3, 5, 7, 11, 13, 17, 19, 23, 29])

    @staticmethod
    def noisy(image, rng):
        return image.astype(np.int64) * 1000 + rng.integers(0, 1000, image.shape)

    def take(self, count, *, source=None, rows=ROWS, batch_size=4, seed=0, threads=0, **options):
        options = {"transform": self.noisy, **options}
        stream = loader.stream(
            source or Counting(30), rows, batch_size, seed=seed, threads=threads, **options
        )
        found = list(itertools.islice(stream, count))
        stream.close()
        return found

    @staticmethod
    def assert_same(found, expected):
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_array_equal(found[name], value, err_msg=name)

    def test_a_batch(self):
        [(batch, _)] = self.take(1, transform=lambda image, rng: image)
        assert batch["image"].shape == (4, 2, 2, 3) and batch["image"].dtype == np.uint8
        assert batch["label"].dtype == np.int32 and batch["index"].dtype == np.int64
        assert batch["mask"].dtype == bool and batch["mask"].all()
        assert batch["label"].tolist() == [row % 3 for row in batch["index"]]
        assert batch["id"] == [f"row-{row}" for row in batch["index"]]
        assert (batch["image"] == batch["index"][:, None, None, None]).all()

    @pytest.mark.parametrize("threads", [1, 3])
    def test_threads_do_not_show(self, threads):
        for (found, at), (expected, there) in zip(
            self.take(12, threads=threads), self.take(12), strict=True
        ):
            self.assert_same(found, expected)
            assert at == there

    def test_every_epoch_is_an_order_of_its_own_and_batches_go_across(self):
        batches = [batch for batch, _ in self.take(10)]
        # 40 examples are four epochs; the third batch ends one and begins the next.
        epochs = np.concatenate([batch["index"] for batch in batches]).reshape(4, 10)
        assert (np.sort(epochs) == self.ROWS).all()
        assert len({tuple(epoch) for epoch in epochs}) == 4
        assert {len(batch["index"]) for batch in batches} == {4}

    def test_an_example_is_not_drawn_alike_twice(self):
        batches = [batch for batch, _ in self.take(10)]
        draws = np.concatenate([batch["image"] % 1000 for batch in batches]).reshape(40, -1)
        assert len({tuple(draw) for draw in draws}) == 40

    @pytest.mark.parametrize(("size", "batch_size"), [(1, 3), (3, 8), (4, 4), (5, 1)])
    def test_awkward_sizes(self, size, batch_size):
        found = self.take(2 * size, rows=self.ROWS[:size], batch_size=batch_size)
        index = np.concatenate([batch["index"] for batch, _ in found]).reshape(-1, size)
        assert (np.sort(index) == self.ROWS[:size]).all()

    def test_the_seed_decides(self):
        streams = [self.take(3, seed=seed) for seed in (0, 1)]
        order, other = ([b["index"].tolist() for b, _ in stream] for stream in streams)
        assert order != other
        [(first, _)] = self.take(1, rows=self.ROWS[:1], seed=0)
        [(second, _)] = self.take(1, rows=self.ROWS[:1], seed=1)
        assert not np.array_equal(first["image"], second["image"])

    @pytest.mark.parametrize("threads", [0, 2])
    @pytest.mark.parametrize("stop", [1, 2, 3, 8])
    def test_from_a_position_on_all_is_the_same(self, stop, threads):
        whole = self.take(11, threads=threads)
        # As a checkpoint keeps it.
        position = json.loads(json.dumps(whole[stop - 1][1]))
        resumed = self.take(11 - stop, position=position, threads=2 - threads)
        for (found, at), (expected, there) in zip(resumed, whole[stop:], strict=True):
            self.assert_same(found, expected)
            assert at == there

    @pytest.mark.parametrize("processes", [2, 4])
    def test_the_processes_shares_side_by_side_are_the_batch(self, processes):
        shares = [self.take(6, share=(i, processes), threads=i) for i in range(processes)]
        for (whole, at), *parts in zip(self.take(6), *shares, strict=True):
            for i, (part, there) in enumerate(parts):
                size = len(whole["index"]) // processes
                mine = slice(i * size, (i + 1) * size)
                self.assert_same(part, {name: value[mine] for name, value in whole.items()})
                assert there == at  # so that any number of processes may go on

    def test_a_left_out_image_is_masked(self):
        class OneLeftOut(Counting):
            def __getitem__(self, row):
                example = super().__getitem__(row)
                return {**example, "label": -1} if row == 13 else example

        for batch, _ in self.take(5, source=OneLeftOut(30)):
            assert batch["mask"].tolist() == [row != 13 for row in batch["index"]]
            assert (batch["label"] == -1).tolist() == [row == 13 for row in batch["index"]]

    @pytest.mark.parametrize("threads", [0, 3])
    def test_a_users_mistake_reaches_the_caller_as_it_is(self, threads):
        with pytest.raises(UserError, match=r"^the image row-13.jpg cannot be decoded$"):
            self.take(3, source=Counting(30, broken=13), threads=threads)
        with pytest.raises(UserError, match=r"share one shape.*\(2, 2, 3\), \(3, 3, 3\)"):
            self.take(3, source=Counting(30, odd=13), threads=threads)

    def test_a_batch_without_rows_is_refused(self):
        with pytest.raises(UserError, match="at least 1; got 0"):
            self.take(1, batch_size=0)

    def test_closing_it_stops_the_threads_and_few_batches_were_loaded_ahead(self):
        def loading():
            return {t for t in threading.enumerate() if t.name.startswith("grain-prefetch")}

        source, before = Counting(10_000), loading()
        stream = loader.stream(
            source, np.arange(10_000), 10, seed=0, transform=self.noisy, threads=2
        )
        next(stream)
        time.sleep(0.2)
        # One taken, four ahead, and one in the hands of each thread.
        assert source.read <= 10 * (1 + 4 + 2)
        assert loading() - before
        stream.close()
        deadline = time.monotonic() + 5
        while loading() - before and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not loading() - before
