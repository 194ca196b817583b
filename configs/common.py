"""Every field of a run with its default; the other configs start from here."""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    """Returns a linear probe on the pooled features of EfficientNet-Lite0."""
    config = ml_collections.ConfigDict()

    # Weights: a name of `python -m experiments.weights list`, or a file. For a file of unknown
    # origin `weights_like` names the set whose architecture and preprocessing it takes, and
    # `weights_prefix` the rule for a self-supervised checkpoint (moco, dino, swav, ...).
    config.weights = "efficientnet_lite0"
    config.weights_like = ""
    config.weights_prefix = ""

    # Data. name: `digits`, `folder` or any image classification set of TFDS. data_dir: the image
    # folder, or where TFDS keeps its sets ('' is its own default).
    config.data = ml_collections.ConfigDict()
    config.data.name = "digits"
    config.data.data_dir = ""
    config.data.train = "train"  # TFDS split strings, such as train[:5000]
    config.data.val = "0.2"  # a share of train, stratified; or a split string
    config.data.test = "test"
    config.data.test_fraction = 0.2  # of a folder without a test split
    config.data.seed = 0  # of that division
    config.data.examples_per_class = (0,)  # few-shot subsets of train, val included; 0 is all
    config.data.skip_corrupt = False  # leave out and count images that do not decode
    config.data.download = True

    # Preprocessing where it differs from what belongs to the weights; 0 and '' leave theirs.
    config.preprocess = ml_collections.ConfigDict()
    config.preprocess.size = 0
    config.preprocess.crop_pct = 0.0
    config.preprocess.geometry = ""  # resize_crop, crop_resize, whole
    config.preprocess.interpolation = ""  # nearest, bilinear, bicubic, lanczos

    # Endpoints of the backbone to probe, each by itself; 'a+b' concatenates, `pixels` is the raw
    # image. The network runs once for all of them.
    config.endpoints = ("pooled",)

    config.extract = ml_collections.ConfigDict()
    config.extract.pooling = "mean"  # of spatial endpoints: mean, max, or grid2 for 2 x 2
    config.extract.dtype = "float32"  # or bfloat16: the type of compute; features are float32
    config.extract.batch_size = 64  # over all devices
    config.extract.fold_batch_norm = True
    config.extract.mapper = "pmap"  # or jit: how a batch is spread over the devices
    config.extract.threads = 4  # that decode and resize
    config.extract.verify_rows = 0  # recompute so many stored rows and compare
    config.extract.feature_dir = ""  # '': features/ in $TL_CACHE or ~/.cache/tl

    # Probe. Solvers: logistic, ridge, knn, head (the classic Keras recipe).
    config.probe = ml_collections.ConfigDict()
    config.probe.solvers = ("logistic",)
    # SimCLR's grid (arXiv:2002.05709, appendix B.8): 45 values from 1e-6 to 1e5.
    config.probe.l2 = tuple(10 ** (-6 + 11 * i / 44) for i in range(45))
    config.probe.max_iterations = 1000
    config.probe.tolerance = 1e-8  # of the objective, relative; see tl/probes/logistic.py
    config.probe.search_tolerance = 1e-6  # the same, of fits that are only compared on val
    config.probe.k = (1, 5, 10, 20, 50)
    config.probe.temperature = (0.02, 0.07, 0.2)
    config.probe.epochs = 10
    config.probe.batch_size = 32
    config.probe.learning_rate = 1e-3
    config.probe.dropout = 0.3

    config.seeds = (0,)  # of the splits and the head; results are averaged
    return config
