"""Tiny TFDS data sets, and a folder where they are prepared."""

import io

import tensorflow_datasets as tfds
from PIL import Image

from tl.data import sources

NAMES = ["circle", "square"]
NUM_TRAIN = 12


class TinyShapes(tfds.core.GeneratorBasedBuilder):
    """Grey 9 x 7 PNGs: image i is all i * 10; label i % 2."""

    VERSION = tfds.core.Version("1.2.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = None
    with_ids = True
    broken = ()

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(9, 7, 1)),
            "label": tfds.features.ClassLabel(names=NAMES),
        }
        if self.with_ids:
            features["id"] = tfds.features.Text()
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {
            "train": self._generate_examples(NUM_TRAIN),
            "test": self._generate_examples(5),
        }

    def _generate_examples(self, count):
        for i in range(count):
            buffer = io.BytesIO()
            Image.new("L", (7, 9), i * 10).save(buffer, "PNG")
            data = buffer.getvalue()[:40] if i in self.broken else buffer.getvalue()
            example = {"image": io.BytesIO(data), "label": i % 2}
            yield i, example | ({"id": f"shape-{i}"} if self.with_ids else {})


class NoIds(TinyShapes):
    """The same without ids, and with two broken images."""

    with_ids = False
    broken = (3, 4)


class NoClasses(TinyShapes):
    """Images whose labels are no classes."""

    def _info(self):
        features = {"image": tfds.features.Image(), "caption": tfds.features.Text()}
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "caption"),
        )

    def _generate_examples(self, count):
        for i, example in super()._generate_examples(count):
            yield i, {"image": example["image"], "caption": "a shape"}


def prepare(directory):
    """Prepares all of them; returns the directory."""
    tfds.disable_progress_bar()
    for builder in (TinyShapes, NoIds, NoClasses):
        builder(data_dir=directory).download_and_prepare(
            file_format="array_record",
            download_config=tfds.download.DownloadConfig(try_download_gcs=False),
        )
    return directory


def of(data_dir, name="tiny_shapes", **fields):
    """Returns the sources of a run on one of them, without a download unless asked."""
    data = sources.Data(name, data_dir=str(data_dir), **{"download": False, **fields})
    return sources.open_sources(data)
