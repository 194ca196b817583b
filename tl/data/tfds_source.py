"""TFDS image classification sets, read and prepared without TensorFlow."""

from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Int32, Int64

from tl.data import encoded, tfds_prepare
from tl.errors import UserError

_LONGEST_ID = 128  # bytes
_LABELS_AT_ONCE = 4096


@runtime_checkable
class Records(Protocol):
    """Serialised examples of one split, as `tfds.builder(...).as_data_source` reads them."""

    def __len__(self) -> int: ...

    def __getitems__(self, rows: list[int]) -> Sequence[bytes]: ...


class TfdsSource(encoded.EncodedSource):
    """One TFDS split with random access to its ArrayRecord files."""

    def __init__(
        self,
        builder: tfds.core.DatasetBuilder,
        split: str,
        *,
        skip_corrupt: bool,
        field: str = "",
    ):
        """Opens a split of a prepared data set.

        Args:
          builder: from `tfds_prepare.open_builder`.
          split: a TFDS split string, such as 'train[:5000]' or 'train[20%:]'.
          skip_corrupt: leave out images that cannot be decoded.
          field: the config's field that names the split, for errors.

        Raises:
          UserError: no such split, an empty one, or a set that is not (image, class label).
        """
        _check_features(builder.info)
        features = dict(builder.info.features)
        wanted = ["image", "label"]
        if isinstance(features.get("id"), tfds.features.Text):
            wanted.append("id")
        self._features = tfds.features.FeaturesDict({key: features[key] for key in wanted})
        self._label_only = tfds.features.FeaturesDict({"label": features["label"]})
        self._records = _open_records(builder, split, field)
        self._places = _places(builder, split)
        config = f"/{builder.builder_config.name}" if builder.builder_config else ""
        longest = f"{split}/{len(self._records)}".encode()
        super().__init__(
            name=builder.name + config,
            version=str(builder.version),
            split=split,
            classes=features["label"].names,
            image_shape=encoded.shared_small_shape(features["image"].shape),
            id_bytes=max(_LONGEST_ID if "id" in wanted else 0, len(longest)),
            skip_corrupt=skip_corrupt,
        )

    def __len__(self) -> int:
        return len(self._records)

    def labels(self) -> Int32[np.ndarray, " n"]:
        """Returns the labels, int32 [N]; -1 where the set withholds them."""
        labels = []
        for start in range(0, len(self), _LABELS_AT_ONCE):
            rows = range(start, min(start + _LABELS_AT_ONCE, len(self)))
            for record in self._records.__getitems__(list(rows)):
                labels.append(self._label_only.deserialize_example_np(record)["label"])
        return np.array(labels, np.int32)

    def places(self) -> Int64[np.ndarray, " n"]:
        """Returns the place of each row among those of all files of the data set."""
        return self._places

    def _read(self, rows: Sequence[int]) -> Iterator[tuple[bytes, int, str]]:
        rows = [int(row) for row in rows]
        for row, record in zip(rows, self._records.__getitems__(rows)):
            example = self._features.deserialize_example_np(
                record, decoders={"image": tfds.decode.SkipDecoding()}
            )
            id_ = example.get("id", b"")
            if not 0 < len(id_) <= _LONGEST_ID:
                id_ = f"{self.split}/{row}".encode()
            yield example["image"], int(example["label"]), id_.decode("utf-8", "replace")


def _check_features(info: tfds.core.DatasetInfo) -> None:
    features = dict(info.features)
    image, label = features.get("image"), features.get("label")
    is_image = isinstance(image, tfds.features.Image) and image.np_dtype == np.uint8
    if not is_image or not isinstance(label, tfds.features.ClassLabel):
        raise UserError(
            f"{info.full_name} is no set of 8-bit images ('image') with one class each ('label'); "
            f"its features are:\n{info.features}\nsupervised keys: {info.supervised_keys}",
            field="data.name",
        )


def _places(builder: tfds.core.DatasetBuilder, split: str) -> Int64[np.ndarray, " n"]:
    """Returns the place of each row among those of all files."""
    starts, total = {}, 0
    for info in builder.info.splits.values():
        for file in info.file_instructions if info.num_examples else ():
            starts[file.filename] = total
            total += file.examples_in_shard
    parts = builder.info.splits[split].file_instructions
    return np.concatenate([starts[p.filename] + p.skip + np.arange(p.take) for p in parts])


def _open_records(builder: tfds.core.DatasetBuilder, split: str, field: str) -> Records:
    try:
        parts = builder.info.splits[split].file_instructions
        if min((part.take for part in parts), default=0) <= 0:
            raise ValueError("it is empty")
        return builder.as_data_source(
            split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
        )
    except NotImplementedError as error:
        raise UserError(
            f"{builder.data_dir} holds {builder.info.file_format.value} files, which have no "
            "random access; prepare the set as ArrayRecord in another directory:\n  "
            + tfds_prepare.command(builder.name, "OTHER_DIR")
            + "\nand point to it with `data.data_dir=OTHER_DIR`"
        ) from error
    except ValueError as error:
        sizes = {name: info.num_examples for name, info in builder.info.splits.items()}
        raise UserError(
            f"the split {split!r} of {builder.info.full_name} cannot be opened: {error}\n"
            f"There are these splits: {sizes}; parts of them are written 'train[:5000]', "
            "'train[20%:]' or 'train[:50%]+test'",
            field=field,
        ) from error
