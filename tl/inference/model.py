"""A classifier of images: a network, what it sees, and the head that names its classes."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from tl.data import imagenet, listing
from tl.data.images import ImageLike, Images
from tl.data.transforms import Overrides
from tl.errors import UserError
from tl.features import network as computing
from tl.features.network import PIXELS, Extraction
from tl.files import Log
from tl.models.backbone import FINAL, LOGITS
from tl.probes.heads import Classifier, Linear
from tl.probes.knn import Bank, Vote
from tl.results.calibration import probabilities
from tl.weights import probe_head
from tl.weights.load import Pretrained, load_probed, local
from tl.weights.load import load as load_weights
from tl.weights.probe_head import ProbeHead
from tl.weights.spec import Preprocessing, WeightChoice

BATCH_SIZE = 64


class Predicted(NamedTuple):
    """The classes of N images, in the order in which the images were given.

    Attributes:
      names: the most probable class of each image; '' for an image that could not be decoded.
      probabilities: float64 [N, C], calibrated where the model has a temperature; NaN for an image
        that could not be decoded.
      classes: names of the C classes, in the order of the columns.
      errors: for each image that could not be decoded, its row and what is wrong with it.
    """

    names: list[str]
    probabilities: Float[np.ndarray, "n c"]
    classes: tuple[str, ...]
    errors: Mapping[int, str]

    def top(self, k: int = 5) -> list[list[tuple[str, float]]]:
        """Returns the most probable classes of each image with their probabilities.

        Args:
          k: how many classes; all of them if there are fewer.

        Returns:
          For each image (class, probability) pairs, the most probable first; none for an image that
          could not be decoded.

        Raises:
          UserError: k is less than 1.
        """
        if k < 1:
            raise UserError(f"expected at least 1 class, got {k}")
        k = min(k, len(self.classes))
        best = np.argsort(-self.probabilities, axis=1, kind="stable")[:, :k]
        return [
            [] if row in self.errors else [(self.classes[c], float(p[c])) for c in chosen]
            for row, (p, chosen) in enumerate(zip(self.probabilities, best, strict=True))
        ]


class Outputs(NamedTuple):
    """A batch's outputs.

    Attributes:
      start: the row of the first image.
      ids: names of the b images.
      values: endpoint to float32 [b, D].
      errors: place in the batch to what is wrong with its image, whose values mean nothing.
    """

    start: int
    ids: list[str]
    values: dict[str, np.ndarray]
    errors: dict[int, str]


@dataclasses.dataclass(frozen=True)
class Model:
    """A network with its weights, its preprocessing and, where it has one, its classifier.

    Attributes:
      name: the weight set's name, or the path that the model was loaded from.
      network: the network and its weights.
      preprocessing: how an image becomes what the network sees.
      classes: names of the outputs, in their order; empty where the network has no head.
      endpoint: the network's output that the classifier acts on; 'a+b' are two, concatenated.
      head: a probe's classifier; None where `endpoint` is the network's own logits.
      extraction: how `endpoint` is computed; its batch size and threads hold for all calls.
      temperature: logits are divided by it before they become probabilities.
      image_shape: the one shape of image that a probe of pixels takes; None for any shape.
    """

    name: str
    network: Pretrained = dataclasses.field(repr=False)
    preprocessing: Preprocessing
    classes: tuple[str, ...] = dataclasses.field(repr=False)  # may be a thousand
    endpoint: str
    head: Classifier | None = dataclasses.field(repr=False)
    extraction: Extraction = dataclasses.field(repr=False)
    temperature: float = 1.0
    image_shape: tuple[int, int, int] | None = None

    def described(self) -> dict[str, Any]:
        """Returns what an export says of the classifier beside its tensors, as JSON has it."""
        return {
            "classes": list(self.classes),
            "preprocessing": self.preprocessing.described(),
            "temperature": self.temperature,
            "link": self.network.spec.link,
            "licence": self.network.spec.licence,
            "weights": self.network.spec.name,
        }

    def predict(
        self,
        images: ImageLike | Sequence[ImageLike] | Iterator[ImageLike],
        *,
        skip_corrupt: bool = False,
    ) -> Predicted:
        """Classifies images.

        Args:
          images: a list or iterator of paths, Pillow images or arrays uint8 [H, W, 3] in RGB, of
            one size or of several; one of these alone; an array uint8 [N, H, W, 3]; or a folder,
            which stands for all images below it in the order of their paths.
          skip_corrupt: whether an image that cannot be decoded gets NaN and a row of `errors`
            rather than a UserError.

        Raises:
          UserError: the model has no head, or an image cannot be used.
        """
        self.check_head()
        chosen = _images(images)
        found = np.full((len(chosen), len(self.classes)), np.nan)
        errors: dict[int, str] = {}
        for batch in self.outputs(chosen, self.extraction, skip_corrupt=skip_corrupt):
            rows = batch.start + np.arange(len(batch.ids))
            found[rows] = self.probabilities(self.logits(batch.values))
            errors |= {batch.start + place: text for place, text in batch.errors.items()}
        found[list(errors)] = np.nan
        names = [
            "" if row in errors else self.classes[best]
            for row, best in enumerate(np.argmax(found, axis=1).tolist())
        ]
        return Predicted(names, found, self.classes, errors)

    def features(
        self,
        images: ImageLike | Sequence[ImageLike] | Iterator[ImageLike],
        endpoints: Sequence[str] = (FINAL,),
        pooling: str = "mean",
    ) -> dict[str, Float[np.ndarray, "n d"]]:
        """Computes features of images.

        Args:
          images: as in `predict`.
          endpoints: names of the network's outputs; `all_endpoints` lists them, and 'pixels' is the
            image itself.
          pooling: how an endpoint [H, W, D] becomes a vector: 'mean' or 'max' over its places,
            'gridN' for means over an N x N grid of cells, or 'none' for all values; of tokens
            also 'cls' for the class token, 'cls_mean' for it and the mean of the patches. After
            'normed_', such as 'normed_cls', the network's last normalisation is applied before.

        Returns:
          The features of each endpoint by its name, float32 [N, D].

        Raises:
          UserError: there is no such endpoint or pooling, or an image cannot be used.
        """
        extraction = self.extracting(endpoints, pooling)
        chosen = _images(images)
        parts = list(self.outputs(chosen, extraction))
        return {
            name: np.concatenate([part.values[name] for part in parts])
            for name in extraction.endpoints
        }

    @property
    def all_endpoints(self) -> tuple[str, ...]:
        """Names of the network's endpoints, from the first layer to the last."""
        return tuple(computing.output_shapes(self.network.model, self.preprocessing.size))

    def widths(self, endpoints: Sequence[str], pooling: str = "mean") -> dict[str, int]:
        """Returns how many features D each of some endpoints has, without computing any.

        Args:
          endpoints: as in `features`.
          pooling: as in `features`.

        Raises:
          UserError: there is no such endpoint or pooling.
        """
        extraction = self.extracting(endpoints, pooling)
        none = Images([], image_shape=self.image_shape)
        return computing.widths(self.network, self.preprocessing.size, extraction, none)

    def extracting(self, endpoints: Sequence[str], pooling: str) -> Extraction:
        """Returns how some endpoints are computed.

        Raises:
          UserError: no such endpoint or pooling.
        """
        if isinstance(endpoints, str):
            endpoints = (endpoints,)
        return dataclasses.replace(self.extraction, endpoints=tuple(endpoints), pooling=pooling)

    def check_head(self) -> None:
        """Raises UserError unless the model has a head."""
        if not self.classes:
            raise UserError(
                f"{self.name} has no head, so it names no classes; expected a run of "
                "experiments.probe or experiments.finetune, or weights with a head"
            )

    def logits(self, values: Mapping[str, np.ndarray]) -> Float[np.ndarray, "n c"]:
        """Returns logits, float32 [N, C], of the outputs of the endpoints in `endpoint`."""
        x = np.concatenate([values[name] for name in self.endpoint.split("+")], axis=1)
        return x if self.head is None else self.head.logits(x)

    def probabilities(self, logits: Float[np.ndarray, "n c"]) -> Float[np.ndarray, "n c"]:
        """Returns calibrated probabilities, float64 [N, C], of logits."""
        return probabilities(logits, self.temperature, self.network.spec.link)

    def outputs(
        self,
        images: Sequence[ImageLike],
        extraction: Extraction,
        *,
        skip_corrupt: bool = False,
        batch_size: int = 0,
        log: Log = print,
    ) -> Iterator[Outputs]:
        """Yields the outputs of images batch by batch, in order.

        Args:
          images: as in `predict`, in a sequence.
          extraction: which endpoints.
          skip_corrupt: as in `predict`.
          batch_size: one compiled shape for calls with different numbers of images; default as
            many as there are, up to the model's own.
          log: takes a line of text.

        Raises:
          UserError: see `predict`; no such endpoint.
        """
        shape = self.image_shape if PIXELS in extraction.endpoints else None
        source = Images(images, image_shape=shape, skip_corrupt=skip_corrupt)
        computing.widths(self.network, self.preprocessing.size, extraction, source)  # it checks
        compiled = self.compiled(extraction)
        computed = computing.compute_with(
            compiled,
            source,
            self.preprocessing,
            extraction,
            np.arange(len(source)),
            batch_size=batch_size or min(extraction.batch_size, len(source)),
            log=log,
        )
        for batch, values in computed:
            there = batch["mask"]
            rows, start = batch["index"][there], int(batch["index"][0])
            errors = {
                place: source.errors.pop(row)
                for place, row in enumerate(rows.tolist())
                if row in source.errors
            }
            ids = batch["id"][: len(rows)]
            yield Outputs(start, ids, {name: v[there] for name, v in values.items()}, errors)

    def compiled(self, extraction: Extraction) -> computing.Compiled:
        """Returns the network's function on the devices; the last few are kept."""
        shape = self.image_shape if PIXELS in extraction.endpoints else None
        return _compiled(_Same(self.network), shape, self.preprocessing, extraction)


class _Same:
    """A network as a key: equal only to itself, for its arrays have no hash."""

    def __init__(self, network: Pretrained):
        self.network = network

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.network is self.network

    def __hash__(self) -> int:
        return id(self.network)


@functools.lru_cache(maxsize=4)
def _compiled(
    same: _Same,
    image_shape: tuple[int, int, int] | None,
    preprocessing: Preprocessing,
    extraction: Extraction,
) -> computing.Compiled:
    return computing.compile_features(same.network, image_shape, preprocessing, extraction)


def load(
    name_or_path: str | Path,
    *,
    weights: str = "",
    like: str = "",
    prefix: str = "",
    average: str = "",
    classes: str = "",
    batch_size: int = BATCH_SIZE,
    threads: int = 4,
    overrides: Overrides | None = None,
) -> Model:
    """Loads a run, a weight file or a public weight set, ready for new images.

    Args:
      name_or_path: the folder of a run of `experiments.probe` or `experiments.finetune`; one of a
        probe's files `head*.safetensors`; a weight file; or the name of a public weight set, such
        as 'resnet50.tv2'. `docs/weights.md` lists the formats and the names.
      weights: where the weights of a probe's network are now; '' if they have not moved.
      like: name of a public weight set, whose architecture and preprocessing a weight file takes;
        '' if the file says them itself.
      prefix: where the network is inside a self-supervised checkpoint, such as 'moco'; or what
        its names begin with, if a file holds several, such as 'student.'; '' for other files.
      average: 'ema' for the averaged weights of a training checkpoint that holds raw ones too; ''
        for the raw.
      classes: a file that names the outputs of a weight file: text with a class a line, or JSON
        with a list of classes or their numbers; '' for none.
      batch_size: images computed at a time, on all devices together.
      threads: how many threads load images.
      overrides: preprocessing that replaces some of the weights' own, see
        `tl.data.transforms.Overrides`; None for their own.

    Raises:
      UserError: there is no such model, or it is damaged.
    """
    name = str(name_or_path)
    file = probe_head.find(Path(local(name)).expanduser())
    if file is not None:
        if like or prefix or average or classes:
            raise UserError(f"{name} is a probe, which says itself how its weights are read")
        model = of_probe(probe_head.read(file), name, weights, batch_size, threads)
        preprocessing = (overrides or Overrides()).of(model.preprocessing)
        return dataclasses.replace(model, preprocessing=preprocessing)
    if weights:
        raise UserError(f"{name} is no probe, so it holds its weights itself; leave `weights` out")
    network = load_weights(name, like=like, prefix=prefix, average=average, classes=classes)
    preprocessing = (overrides or Overrides()).of(network.spec.preprocessing)
    return Model(
        name=name,
        network=network,
        preprocessing=preprocessing,
        classes=class_names(network),
        endpoint=LOGITS,
        head=None,
        extraction=Extraction((LOGITS,), batch_size=batch_size, threads=threads),
        temperature=network.spec.temperature,
    )


def of_probe(
    probe: ProbeHead, name: str, weights: str = "", batch_size: int = BATCH_SIZE, threads: int = 4
) -> Model:
    """Returns the classifier that a probe makes of its network.

    Args:
      probe: see `ProbeHead`.
      name: of the probe.
      weights, batch_size, threads: as in `load`.

    Raises:
      UserError: the network's weights are not at hand.
    """
    return Model(
        name=name,
        network=load_probed(probe, name, weights=weights),
        preprocessing=probe.preprocessing,
        classes=probe.classes,
        endpoint=probe.endpoint,
        head=classifier(probe),
        extraction=Extraction(
            tuple(dict.fromkeys(probe.endpoint.split("+"))),
            pooling=probe.pooling,
            dtype=probe.dtype,
            batch_size=batch_size,
            fold_batch_norm=probe.fold_batch_norm,
            threads=threads,
        ),
        temperature=probe.temperature,
        image_shape=probe.image_shape,
    )


def class_names(network: Pretrained) -> tuple[str, ...]:
    """Returns the names of a head's outputs: its own, ImageNet's where it has 1,000, or numbers."""
    spec = network.spec
    if spec.classes or not spec.num_classes:
        return spec.classes
    names = imagenet.names()
    if spec.num_classes == len(names):
        # Two names stand for two classes each.
        return tuple(
            name if names.count(name) == 1 else f"{name} ({wnid})"
            for name, wnid in zip(names, imagenet.wnids(), strict=True)
        )
    return tuple(map(str, range(spec.num_classes)))


def classifier(probe: ProbeHead) -> Classifier:
    """Returns a probe's head, which acts on features."""
    if probe.kind == "linear":
        return Linear(probe.tensors["kernel"], probe.tensors["bias"])
    bank = Bank.of(probe.tensors["directions"], probe.tensors["labels"], len(probe.classes))
    return Vote(bank, int(probe.setting["k"]), probe.setting["temperature"])


def as_probe(
    head: Classifier,
    *,
    setting: Mapping[str, float],
    endpoint: str,
    extraction: Extraction,
    image_shape: tuple[int, int, int] | None,
    preprocessing: Preprocessing,
    weights: WeightChoice,
    sha256: str,
    classes: Sequence[str],
    temperature: float,
    seed: int,
) -> ProbeHead:
    """Returns a fitted head in the form that is saved; see `ProbeHead` for the arguments."""
    if isinstance(head, Linear):
        kind, tensors = "linear", {"kernel": head.kernel, "bias": head.bias}
    elif isinstance(head, Vote):
        kind, tensors = (
            "knn",
            {
                "directions": head.bank.directions,
                "labels": np.asarray(head.bank.labels, np.int64),
            },
        )
    else:
        raise TypeError(f"expected a linear head or nearest neighbours, got {head!r}")
    if weights.name and (path := Path(weights.name).expanduser()).exists():
        weights = dataclasses.replace(weights, name=str(path.resolve()))
    return ProbeHead(
        kind=kind,
        tensors=tensors,
        setting=dict(setting),
        endpoint=endpoint,
        pooling=extraction.pooling,
        dtype=extraction.dtype,
        fold_batch_norm=extraction.fold_batch_norm,
        image_shape=image_shape if PIXELS in endpoint.split("+") else None,
        preprocessing=preprocessing,
        weights=weights,
        sha256=sha256,
        classes=tuple(classes),
        temperature=temperature,
        seed=seed,
    )


def _images(images: ImageLike | Sequence[ImageLike] | Iterator[ImageLike]) -> Sequence[ImageLike]:
    found = _sequence(images)
    if not len(found):
        raise UserError("expected one image or more, got none")
    return found


def _sequence(images: ImageLike | Sequence[ImageLike] | Iterator[ImageLike]) -> Sequence[ImageLike]:
    if isinstance(images, str | Path) and ("://" in str(images) or Path(images).is_dir()):
        return [item.path for item in listing.listed([str(images)])]
    if isinstance(images, np.ndarray):
        return list(images) if images.ndim in (1, 4) else [images]  # of paths or of pixels
    if isinstance(images, Iterator):  # such as `folder.glob("*.jpg")`
        return list(images)
    if isinstance(images, Sequence) and not isinstance(images, str):
        return images
    return [images]
