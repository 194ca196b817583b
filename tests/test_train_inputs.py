"""What training is fed: images made alike by any loader, and stored outputs of an endpoint."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from tests.toy import PLAIN, NoiseSource
from tl.data.augment import Augmentation
from tl.data.augment import augment as augment_image
from tl.data.images import Images
from tl.errors import UserError
from tl.train import inputs
from tl.weights.spec import Preprocessing

ROWS = np.arange(3, 16)
RANDOM = Augmentation(crop="resized", flip=0.5, jitter=(0.2, 0.2, 0.2, 0.1))
ENLARGED = dataclasses.replace(PLAIN, size=16)


class OneCorrupt(NoiseSource):
    def __getitem__(self, row):
        example = super().__getitem__(row)
        return {**example, "label": -1} if row == 5 else example


def of(augmentation, source=None, threads=0, preprocessing=PLAIN):
    source = source or NoiseSource(20)
    parts = {"train": (source, ROWS), "val": (source, np.arange(3))}
    return inputs.image_inputs(parts, augmentation, preprocessing, threads)


def first(fed, count, batch_size=4, seed=0, **options):
    stream = fed.stream(batch_size, seed, **options)
    found = [next(stream) for _ in range(count)]
    stream.close()
    return found


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


@pytest.mark.parametrize("threads", [1, 3])
def test_augmented_batches_follow_from_seed_and_number_whatever_the_threads(threads):
    for (found, _), (expected, _) in zip(
        first(of(RANDOM, threads=threads), 9), first(of(RANDOM), 9), strict=True
    ):
        assert_same(found, expected)


def test_augmented_batches_change_with_the_seed_and_from_epoch_to_epoch():
    batches = [batch for batch, _ in first(of(RANDOM), 2, batch_size=13)]
    pixels = [batch["image"][np.argsort(batch["index"])] for batch in batches]
    assert all(sorted(batch["index"]) == ROWS.tolist() for batch in batches)
    assert sum(np.array_equal(a, b) for a, b in zip(*pixels)) <= 1
    other, _ = first(of(RANDOM), 1, batch_size=13, seed=1)[0]
    assert other["index"].tolist() != batches[0]["index"].tolist()


@pytest.mark.parametrize("stop", [1, 4, 7])
def test_from_a_position_on_the_batches_are_the_same(stop):
    fed = of(RANDOM, threads=2)
    whole = first(fed, 9)
    resumed = first(of(RANDOM), 9 - stop, position=whole[stop - 1][1])
    for (found, at), (expected, there) in zip(resumed, whole[stop:], strict=True):
        assert_same(found, expected)
        assert at == there


def test_the_shares_of_two_processes_are_halves_of_the_batch():
    fed = of(RANDOM)
    shares = [first(fed, 5, share=(i, 2)) for i in range(2)]
    for (whole, at), *parts in zip(first(fed, 5), *shares, strict=True):
        for i, (part, there) in enumerate(parts):
            half = len(whole["index"]) // 2
            mine = slice(i * half, (i + 1) * half)
            assert_same(part, {name: value[mine] for name, value in whole.items()})
            assert there == at


def test_an_example_is_augmented_as_the_function_says():
    [(batch, _)] = first(of(RANDOM), 1)
    for place, row in enumerate(batch["index"]):
        rng = np.random.default_rng((0, 0, place))
        expected = augment_image(NoiseSource(20)[int(row)]["image"], rng, RANDOM, PLAIN)
        np.testing.assert_array_equal(batch["image"][place], expected)


@pytest.mark.parametrize("shape", [(4, 4, 3), None])
def test_training_and_evaluation_make_one_image_alike_unless_it_is_augmented(shape):
    # With a shape the device resizes; without one, or to augment, the host.
    preprocessing = Preprocessing(size=9, geometry="whole")
    source = NoiseSource(20, image_shape=shape)
    for augmentation in (Augmentation(), Augmentation(flip=1.0)):
        fed = of(augmentation, source, preprocessing=preprocessing)
        [(batch, _)] = first(fed, 1)
        trained = np.asarray(fed.prepare_train(jnp.asarray(batch["image"])))
        (row,) = batch["index"][:1]
        evaluated = dataclasses.replace(fed, parts={"val": (source, np.array([row]))})
        (loaded,) = evaluated.batches("val", 1)
        expected = np.asarray(fed.prepare_eval(jnp.asarray(loaded["image"])))[0]
        assert trained.shape[1:] == expected.shape == (9, 9, 3)
        if augmentation.active:
            assert not np.array_equal(trained[0], expected)
            expected = expected[:, ::-1]
        np.testing.assert_array_equal(trained[0], expected)


def test_unaugmented_images_of_one_size_cross_the_bus_as_they_are():
    [(batch, _)] = first(of(Augmentation(), preprocessing=ENLARGED), 1)
    assert batch["image"].shape == (4, 4, 4, 3) and batch["image"].dtype == np.uint8
    [(batch, _)] = first(of(Augmentation(flip=1.0), preprocessing=ENLARGED), 1)
    assert batch["image"].shape == (4, 16, 16, 3) and batch["image"].dtype == np.uint8


def test_left_out_images_and_padding_are_masked():
    fed = of(Augmentation(), OneCorrupt(20))
    fed = dataclasses.replace(fed, parts={**fed.parts, "val": (OneCorrupt(20), np.arange(3, 9))})
    batches = list(fed.batches("val", 4))
    assert np.concatenate([b["index"] for b in batches]).tolist() == [3, 4, 5, 6, 7, 8, -1, -1]
    assert np.concatenate([b["mask"] for b in batches]).tolist() == [
        True, True, False, True, True, True, False, False,
    ]  # fmt: skip
    seen = [batch for batch, _ in first(fed, 4, batch_size=13)]
    for batch in seen:
        assert batch["index"][~batch["mask"]].tolist() == [5]


@pytest.mark.parametrize("threads", [0, 2])
def test_a_users_mistake_reaches_the_caller_as_it_is(threads):
    class Broken(NoiseSource):
        def __getitem__(self, row):
            if row == 7:
                raise UserError("the image id7 cannot be decoded")
            return super().__getitem__(row)

    fed = of(RANDOM, Broken(20), threads)
    with pytest.raises(UserError, match=r"^the image id7 cannot be decoded$"):
        first(fed, 4)
    with pytest.raises(UserError, match=r"^the image id7 cannot be decoded$"):
        list(dataclasses.replace(fed, parts={"val": (Broken(20), ROWS)}).batches("val", 4))


@pytest.mark.parametrize(
    ("augmentation", "drawn"),
    [
        (Augmentation(), (12, 16)),
        (Augmentation(flip=1.0), (12, 16)),
        (Augmentation(crop="random", resize=7), (24, 32)),
        (Augmentation(crop="resized"), (48, 64)),
    ],
)
def test_large_jpegs_are_decoded_smaller_unless_a_part_is_drawn(tmp_path, augmentation, drawn):
    Image.new("RGB", (64, 48)).save(tmp_path / "a.jpg")
    source = Images([tmp_path / "a.jpg"] * 2)
    p = Preprocessing(size=6, geometry="whole", draft=True)
    parts = {"train": (source, np.arange(2)), "val": (source, np.arange(1))}
    fed = inputs.image_inputs(parts, augmentation, p, 0)
    assert fed.drawn[0]["image"].shape[:2] == drawn
    [(batch, _)] = first(fed, 1, batch_size=2)
    assert batch["image"].shape == (2, 6, 6, 3)
    for part in ("train", "val"):  # train is evaluated, too
        assert fed.parts[part][0][0]["image"].shape == (12, 16, 3)
    plain = inputs.image_inputs(parts, augmentation, dataclasses.replace(p, draft=False), 0)
    assert plain.drawn is None and plain.parts["train"][0] is source
