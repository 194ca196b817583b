"""Writes a classifier for other programs: torchvision, timm, transformers, StableHLO or ONNX.

  python -m experiments.export RUN --format=onnx --output=FOLDER [--image_size=480x640]
  python -m experiments.export RUN --format=onnx --output=FOLDER --preprocessing=outside
  python -m experiments.export RUN --format=timm --output=FOLDER --overwrite

RUN is the folder of a run of experiments.probe or experiments.finetune, a weight file, or a name of
`experiments.weights list`. The folder gets the file and, beside it, classes and preprocessing.
"""

import re
from collections.abc import Sequence

from absl import flags

from tl import paths
from tl.errors import UserError
from tl.runs import cli

FORMATS = ("torchvision", "timm", "transformers", "stablehlo", "onnx")
FORMAT = flags.DEFINE_enum("format", None, FORMATS, "the program that will read it")
OUTPUT = flags.DEFINE_string("output", "", "folder to write")
OVERWRITE = flags.DEFINE_bool("overwrite", False, "replace the export in --output")
IMAGE_SIZE = flags.DEFINE_string(
    "image_size",
    "",
    "stablehlo, onnx: HEIGHTxWIDTH of the images, which are then resized and cropped inside; "
    "default: they come as the square that the network sees",
)
PREPROCESSING = flags.DEFINE_enum(
    "preprocessing",
    "inside",
    ("inside", "outside"),
    "stablehlo, onnx: outside takes images that are normalised already, float32",
)
WEIGHTS = flags.DEFINE_string("weights", "", "where the weights of a probe's network are now")
LIKE = flags.DEFINE_string("like", "", "weight set whose preprocessing a local file takes")
PREFIX = flags.DEFINE_string("prefix", "", "prefix rule of a self-supervised checkpoint")
AVERAGE = flags.DEFINE_string("average", "", "ema: a checkpoint's averaged weights, not the raw")
CLASSES = flags.DEFINE_string("classes", "", "file that names the outputs of a weight file")


def main(arguments: Sequence[str]) -> None:
    """Writes the classifier that the arguments name."""
    if len(arguments) != 1 or not FORMAT.value or not OUTPUT.value:
        raise UserError(
            "expected a run, a format and a folder: python -m experiments.export RUN "
            f"--format={'|'.join(FORMATS)} --output=FOLDER"
        )
    size = _size(IMAGE_SIZE.value)
    if size and FORMAT.value not in ("stablehlo", "onnx"):
        raise UserError(f"--image_size is for stablehlo and onnx; {FORMAT.value} resizes itself")
    outside = PREPROCESSING.value == "outside"
    if outside and FORMAT.value not in ("stablehlo", "onnx"):
        raise UserError(f"--preprocessing is for stablehlo and onnx; {FORMAT.value} has it outside")
    if outside and size:
        raise UserError("--image_size resizes inside; leave it out with --preprocessing=outside")
    from tl.inference import export  # imports JAX, which a misspelt flag need not wait for
    from tl.inference import model as inference

    model = inference.load(
        arguments[0],
        weights=WEIGHTS.value,
        like=LIKE.value,
        prefix=PREFIX.value,
        average=AVERAGE.value,
        classes=CLASSES.value,
    )
    inputs = export.Inputs(size, normalised=outside)
    folder = paths.as_local(OUTPUT.value, "--output")
    written = export.write(model, FORMAT.value, folder, inputs, overwrite=OVERWRITE.value)
    print("written: " + ", ".join(map(str, written)))


def _size(text: str) -> tuple[int, int] | None:
    if not text:
        return None
    if not (match := re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)):
        raise UserError(f"--image_size expected HEIGHTxWIDTH, such as 480x640, got {text!r}")
    return int(match[1]), int(match[2])


if __name__ == "__main__":
    cli.run(
        main,
        {
            "weights_like": "like",
            "weights_prefix": "prefix",
            "weights_average": "average",
            "weights_classes": "classes",
        },
    )
