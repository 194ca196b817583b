"""The guide's whole job on CIFAR-10, bottleneck features and a head: ours and the Keras script."""

import dataclasses
import tempfile
from pathlib import Path

from ml_collections import ConfigDict

from experiments.benchmark import contest, pipeline, rows
from experiments.benchmark.contest import Contestant
from experiments.benchmark.options import Options
from experiments.benchmark.peers import Work

BACKBONE = "resnet50"
SIZE = 200


def measure(options: Options, log: contest.Log) -> rows.Row:
    """Returns a row of seconds, of random weights; both processes have imported what they need."""
    count = options.guide_images
    contestants = [
        Contestant("ours", ours, (count, options.data_dir, options.guide_config)),
        Contestant(
            "keras", keras_script, (count, options.data_dir), ("keras",), {"KERAS_BACKEND": "jax"}
        ),
    ]
    # One after the other: each may need the memory that the other holds.
    outcomes: dict[str, contest.Outcome] = {}
    for contestant in contestants:
        if contestant.name in ("ours", *options.peers):
            outcomes |= contest.run([contestant], rounds=1, seconds=0, log=log)
    growth = {
        name: round(outcome.peak_mib - outcome.ready_mib, 1)
        for name, outcome in outcomes.items()
        if not outcome.error
    }
    log("guide: memory grew by " + ", ".join(f"{n} {mib:.0f} MiB" for n, mib in growth.items()))
    return rows.make(
        "pipeline", "s", outcomes, case=f"guide, {count} images", size=SIZE, source="cifar10",
        images=count, growth_mib=growth,
    )  # fmt: skip


def ours(count: int, data_dir: str, config: ConfigDict) -> Work:
    """Ours: `experiments.probe` with the guide's config, a new folder and an empty cache."""
    from experiments.benchmark.synthetic import random_network
    from tl import devices
    from tl.runs import probe
    from tl.weights import trained

    devices.divide_cpu()  # as every command does
    folder = tempfile.TemporaryDirectory()
    root = Path(folder.name)
    network = random_network(BACKBONE, SIZE, num_classes=1000, stride_in="1x1")
    spec = dataclasses.replace(network.spec, scheme="torchvision")
    trained.save(network.variables, root / "weights.safetensors", spec, list(map(str, range(1000))))
    config = config.copy_and_resolve_references()
    config.report = False  # the Keras script makes none
    config.weights = str(root / "weights.safetensors")
    config.extract.feature_dir = str(root / "features")
    config.data.update(data_dir=data_dir, train=f"train[:{count}]", test=f"test[:{count // 5}]")
    run = root / "run"
    run.mkdir()

    def work() -> None:
        probe.run(config, run, log=str)
        folder.cleanup()

    return work


def keras_script(count: int, data_dir: str) -> Work:
    """The script as people write it: predict everything, keep it in one file, train a head."""
    import keras
    import numpy as np

    def arrays(number: int) -> tuple[np.ndarray, np.ndarray]:
        source = pipeline.open_source(number, data_dir)
        return np.stack([source[i]["image"] for i in range(number)]), source.labels()

    train, labels = arrays(count)
    test, test_labels = arrays(count // 5)

    def work() -> None:
        inputs = keras.Input((pipeline.IMAGE_SIZE, pipeline.IMAGE_SIZE, 3))
        images = keras.layers.Resizing(SIZE, SIZE)(inputs)
        images = keras.applications.resnet.preprocess_input(images)
        base = keras.applications.ResNet50(weights=None, include_top=False)
        model = keras.Model(inputs, base(images))
        with tempfile.TemporaryDirectory() as folder:
            np.save(f"{folder}/train.npy", model.predict(train, verbose=0))
            np.save(f"{folder}/test.npy", model.predict(test, verbose=0))
            features, test_features = np.load(f"{folder}/train.npy"), np.load(f"{folder}/test.npy")
        head = keras.Sequential(
            [
                keras.layers.GlobalAveragePooling2D(),
                keras.layers.Dropout(0.3),
                keras.layers.Dense(10, activation="softmax"),
            ]
        )
        head.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        head.fit(features, labels, batch_size=32, epochs=10, validation_split=0.2, verbose=0)
        head.evaluate(test_features, test_labels, verbose=0)

    return work
