r"""Writes any data set as a few large files, which are read faster than a million small ones.

  python -m experiments.pack --config=configs/folder_probe.py --config.data.data_dir=PHOTOS \
      --output=PACK

Every command takes PACK where it takes PHOTOS, and gives the same results: of train, test and
val as `--config.data.*` has divided them. Encoded images are copied byte for byte.
"""

from collections.abc import Sequence

from absl import flags

from tl import paths
from tl.errors import UserError
from tl.runs import cli

cli.define_config_flag()
OUTPUT = flags.DEFINE_string("output", None, "folder to make")


def main(_: Sequence[str]) -> None:
    """Packs the data that the flags describe."""
    from tl.data import pack, sources
    from tl.runs import options

    if not OUTPUT.value:
        raise UserError("where to? Give --output=FOLDER")
    folder = paths.as_local(OUTPUT.value, "--output")
    data = options.data(flags.FLAGS.config)
    opened = sources.open_sources(data, labelled=False)
    for part, about in pack.write(opened, folder).items():
        size = sum(shard.bytes for shard in about.shards)
        print(f"{part}: {about.images:,} images, {size / 1e6:,.1f} MB, {len(about.shards)} files")
    print(f"written: {folder}")


if __name__ == "__main__":
    cli.run(main)
