"""Public weights: what there is, and whether a file is what it should be.

python -m experiments.weights list [--family=vit] [--licence=commercial] [--published]
python -m experiments.weights show NAME
python -m experiments.weights fetch NAME
python -m experiments.weights verify NAME_OR_PATH [--reference=x_and_y.npz]
python -m experiments.weights convert NAME_OR_PATH --output=FILE [--scheme=huggingface]
"""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from absl import flags

from tl.errors import UserError, nearest
from tl.runs import cli

if TYPE_CHECKING:  # importing them takes seconds, and `list` needs none
    import numpy as np

    from tl.weights.load import Pretrained
    from tl.weights.spec import WeightSpec

LIKE = flags.DEFINE_string("like", "", "weight set whose preprocessing a local file takes")
PREFIX = flags.DEFINE_string("prefix", "", "prefix rule of a self-supervised checkpoint")
AVERAGE = flags.DEFINE_string("average", "", "ema: a checkpoint's averaged weights, not the raw")
CACHE_DIR = flags.DEFINE_string("cache_dir", "", "instead of $TL_CACHE or ~/.cache/tl")
REFERENCE = flags.DEFINE_string(
    "reference", "", "verify: npz with x, normalised images [N, 3, H, W], and y, logits [N, C]"
)
OUTPUT = flags.DEFINE_string("output", "", "convert: the safetensors file to write")
SCHEME = flags.DEFINE_string(
    "scheme", "", "convert: whose tensor names to write, instead of the network's usual ones"
)
FAMILY = flags.DEFINE_string("family", "", "list: a part of the sets' names, such as vit")
COMMERCIAL = "commercial"
LICENCE = flags.DEFINE_string(
    "licence", "", f"list: only sets with it, or {COMMERCIAL} for all that allow such use"
)
PUBLISHED = flags.DEFINE_bool("published", False, "list: only sets with a published accuracy")


def list_sets() -> None:
    """Prints the sets of the catalogue that the flags ask for, with a line between families."""
    import tabulate

    from tl.models import registry
    from tl.weights import costs, fetch

    rows: list[Any] = []
    for _, family in itertools.groupby(_chosen(), lambda spec: registry.family(spec.backbone)):
        rows += [
            [
                spec.name,
                spec.preprocessing.size,
                costs.parameters(spec) / 1e6,
                costs.multiply_adds(spec),
                spec.top1 and 100 * spec.top1,
                spec.top5 and 100 * spec.top5,
                spec.licence,
                "yes" if fetch.is_cached(spec, CACHE_DIR.value) else "",
            ]
            for spec in family
        ] + [tabulate.SEPARATING_LINE]
    headers = ["name", "px", "params M", "GMAC", "top-1 %", "top-5 %", "licence", "here"]
    formats = ("", "", ".1f", ".2f", ".3f", ".3f", "", "")
    print(tabulate.tabulate(rows[:-1], headers, floatfmt=formats, missingval="-"))


def _chosen() -> "list[WeightSpec]":
    """Returns the sets that `list` prints, by family and network, the most accurate first.

    Raises:
      UserError: there are none.
    """
    from tl.models import registry
    from tl.weights import catalog

    specs = [catalog.get(name) for name in catalog.names()]
    licences = dict.fromkeys(spec.licence for spec in specs)
    if LICENCE.value not in ("", COMMERCIAL, *licences):
        raise UserError(
            f"--licence expected {COMMERCIAL}, for all that allow it, or one of "
            f"{', '.join(licences)}, got {LICENCE.value}"
        )
    chosen = [
        spec
        for spec in specs
        if FAMILY.value.lower() in spec.name
        and _allowed(spec)
        and not (PUBLISHED.value and spec.top1 is None)
    ]
    if not chosen:
        raise UserError(
            "no set is left; --family takes a part of a set's name, such as vit, resnext50, dinov2"
        )
    networks = registry.names()
    return sorted(chosen, key=lambda s: (networks.index(s.backbone), -(s.top1 or 0)))


def _allowed(spec: "WeightSpec") -> bool:
    if LICENCE.value == COMMERCIAL:
        return not spec.non_commercial
    return LICENCE.value in ("", spec.licence)


def show(name: str) -> None:
    """Prints what the catalogue knows of a weight set."""
    from tl.weights import catalog, costs
    from tl.weights.spec import LocalFile

    spec = catalog.get(name)
    print(f"{'parameters':14} {costs.parameters(spec):,}")
    adds = f"{costs.multiply_adds(spec):.2f} billion for an image, without the head"
    print(f"{'multiply-adds':14} {adds}")
    for field in dataclasses.fields(spec):
        if value := getattr(spec, field.name):
            print(f"{field.name:14} {value}")
    if not isinstance(spec.source, LocalFile):
        print(f"{'url':14} {spec.source.url}")


def fetch_file(name: str) -> None:
    """Brings a weight set's file here, checked, and prints where it is."""
    from tl.weights import catalog, fetch

    path, sha256 = fetch.fetch(catalog.get(name), CACHE_DIR.value)
    print(f"{path}\nsha256 {sha256}")


def verify(name_or_path: str) -> None:
    """Loads weights, and prints what they are and how far they are from a reference."""
    import jax
    import numpy as np

    network = _load(name_or_path)
    leaves = jax.tree.leaves(network.variables)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(network.variables["params"]))
    print(f"weights        {network.spec.name} ({network.spec.backbone})")
    print(f"sha256         {network.sha256}")
    print(f"tensors        {len(leaves)}, {parameters:,} parameters, all names and shapes match")
    print(f"preprocessing  {network.spec.preprocessing}")
    if REFERENCE.value:
        x, y = _reference(network.spec.num_classes)
        with jax.default_matmul_precision("highest"):
            logits = jax.jit(network.model.apply)(network.variables, x)["logits"]
        print(f"largest error  {np.max(np.abs(logits - y)) / np.max(np.abs(y)):.1e} of the logits")


def convert(name_or_path: str) -> None:
    """Writes weights as safetensors under the names of other software."""
    from tl.weights import load

    if not OUTPUT.value:
        raise UserError("convert needs --output=FILE")
    network = _load(name_or_path)
    schemes = network.backbone.schemes
    scheme = SCHEME.value or schemes[0]
    if scheme not in schemes:
        raise UserError(
            f"--scheme={scheme}: {network.backbone.name} has the names of {', '.join(schemes)}"
        )
    load.save(network.variables, OUTPUT.value, scheme)
    print(f"wrote {OUTPUT.value} ({scheme} names)")
    arguments = dict(network.spec.model_args)
    arguments.pop("grid", None)  # the others no tensor's name or shape tells
    if arguments:
        print(f"note: it computes the same only in a network with {arguments}")


def _reference(num_classes: int) -> "tuple[np.ndarray, np.ndarray]":
    import numpy as np

    try:
        with np.load(REFERENCE.value) as reference:
            x, y = reference["x"], reference["y"]
    except Exception as error:  # whatever a file that is no npz sets off
        raise UserError(
            f"--reference={REFERENCE.value} is no npz with x and y: {type(error).__name__}: {error}"
        ) from error
    fits = x.ndim == 4 and x.shape[1] == 3 and x.dtype.kind == "f"
    if not fits or not num_classes or y.shape != (len(x), num_classes):
        raise UserError(
            f"--reference expected x, float [N, 3, H, W], and y, the logits [N, {num_classes}] of "
            f"these weights, got {x.dtype}{list(x.shape)} and {y.dtype}{list(y.shape)}"
        )
    return x.transpose(0, 2, 3, 1), y


def _load(name_or_path: str) -> "Pretrained":
    from tl.weights import load

    return load.load(
        name_or_path,
        like=LIKE.value,
        prefix=PREFIX.value,
        average=AVERAGE.value,
        cache_dir=CACHE_DIR.value,
    )


_FIELD_FLAGS = {"weights_like": "like", "weights_prefix": "prefix", "weights_average": "average"}
COMMANDS: dict[str, Callable[..., None]] = {
    "list": list_sets,
    "show": show,
    "fetch": fetch_file,
    "verify": verify,
    "convert": convert,
}


def main(arguments: Sequence[str]) -> None:
    """Runs the command named first with the arguments that follow it."""
    command, *rest = arguments or [""]
    if command not in COMMANDS:
        raise UserError(f"no command is called {command!r}{nearest(command, COMMANDS)}")
    wanted = 0 if command == "list" else 1
    if len(rest) != wanted:
        raise UserError(f"{command} takes {wanted} argument(s), got {len(rest)}; see --help")
    COMMANDS[command](*rest)


if __name__ == "__main__":
    cli.run(main, _FIELD_FLAGS)
