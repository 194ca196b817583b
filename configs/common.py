"""Every field of a run with its default; the other configs start from here."""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    """Returns a linear probe on the pooled features of EfficientNet-Lite0."""
    config = ml_collections.ConfigDict()

    # Weights: a name of `python -m experiments.weights list`, or a file. For a file of unknown
    # origin `weights_like` names the set whose architecture and preprocessing it takes, and
    # `weights_prefix` the rule for a self-supervised checkpoint (moco, dino, swav, ...).
    # `weights_average=ema` takes the averaged weights of a checkpoint that holds raw ones too.
    config.weights = "efficientnet_lite0"
    config.weights_like = ""
    config.weights_prefix = ""
    config.weights_average = ""
    # Names of the head's outputs, for a classifier of your own: a text file with a name a line, or
    # JSON with a list of names or torchvision's class_to_idx.
    config.weights_classes = ""

    # Data. name: `digits`; `folder`, where the path may be a folder, a table (.csv, .tsv, .jsonl,
    # .parquet), arrays (.npz, or a folder of .npy), tars of webdataset or a saved set of Hugging
    # Face; a set of TFDS; or `hf:owner/name`. data_dir: the path, or where TFDS or Hugging Face
    # keep their sets.
    config.data = ml_collections.ConfigDict()
    config.data.name = "digits"
    config.data.data_dir = ""
    config.data.train = "train"  # a split's name; of TFDS a split string, such as train[:5000]
    # A share of train, stratified; a split string; or, for probes, folds of train, such as 5fold:
    # each in turn is val, so that none is kept from train.
    config.data.val = "0.2"
    config.data.test = "test"
    config.data.test_fraction = 0.2  # of a folder without a test split
    config.data.seed = 0  # of that division
    config.data.examples_per_class = (0,)  # few-shot subsets of train, val included; 0 is all
    config.data.skip_corrupt = False  # leave out and count images that do not decode
    # Columns of a table, arrays, or members of tars, that have no usual name (path, label, ...).
    config.data.image_column = ""  # of paths
    config.data.label_column = ""
    config.data.split_column = ""
    config.data.group_column = ""
    # Regular expression that finds the name of an image's group (a patient, a burst) in its path,
    # such as (patient[0-9]+)_. No division parts a group, and intervals are over whole groups.
    config.data.group_pattern = ""
    config.data.allow_duplicates = False  # whether splits may share images, byte for byte
    config.data.download = True

    # Preprocessing where it differs from what belongs to the weights; 0 and '' leave theirs.
    config.preprocess = ml_collections.ConfigDict()
    config.preprocess.size = 0
    config.preprocess.crop_pct = 0.0
    config.preprocess.geometry = ""  # resize_crop, crop_resize, whole
    config.preprocess.interpolation = ""  # nearest, bilinear, bicubic, lanczos
    # Decode large JPEGs at 1/2, 1/4 or 1/8 of their size, where twice what is needed is left.
    config.preprocess.draft = False

    # Endpoints of the backbone to probe, each by itself; 'a+b' concatenates, `last` is the last
    # stage or block, `earlier` stands for all before it, stem included, `pixels` is the raw image.
    # The network runs once for all.
    config.endpoints = ("pooled",)

    config.extract = ml_collections.ConfigDict()
    # Or max, none, grid2 for 2 x 2; of tokens also cls, cls_mean, normed_cls.
    config.extract.pooling = "mean"
    config.extract.dtype = "float32"  # or bfloat16: the type of compute; features are float32
    config.extract.batch_size = 64  # over all devices
    config.extract.fold_batch_norm = True
    config.extract.mapper = "pmap"  # or jit: how a batch is spread over the devices
    config.extract.threads = 4  # that decode and resize
    # More endpoints to store, so that runs with different `endpoints` share a store.
    config.extract.endpoints = ()
    # Set by a study: what other runs read from the same store. What the network lacks is left out.
    config.extract.shared_endpoints = ()
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
    # The path ends this many times below the last strength at which val was as good as ever.
    config.probe.overrun = 100.0
    config.probe.k = (1, 5, 10, 20, 50)
    config.probe.temperature = (0.02, 0.07, 0.2)
    config.probe.epochs = 10
    config.probe.batch_size = 32
    config.probe.learning_rate = 1e-3
    config.probe.dropout = 0.3

    # Fine-tuning (experiments.finetune); it takes one value of examples_per_class and of seeds.
    config.train = ml_collections.ConfigDict()
    config.train.start = "weights"  # or random: the same network, untrained
    # The new head: zero, random, probe (LP-FT: fitted first on frozen features), or keep, the one
    # that the weights come with.
    config.train.head = "zero"
    # What does not move, by stage ('stem', 'stage1') or pattern ('stage[1-3]', '*/bn'): no
    # gradient, no optimizer state, no weight decay, no batch statistics. 'earlier' is all before
    # the last stage or block, '!head' takes the head out of what others froze: ('*', '!head').
    # 'stage4@100' under unfreeze takes stage4 out from step 100 on.
    config.train.freeze = ()
    config.train.unfreeze = ()
    # Low-rank adaptation: patterns of the kernels that get a trained product of two matrices. All
    # else but the head is frozen, unless freeze says what is.
    config.train.lora = ()
    config.train.lora_rank = 8
    config.train.wise_ft = False  # then choose on val between the start's and the best weights
    config.train.cache_prefix = False  # run the frozen stages once and train from their outputs
    # Batch normalisation: train; affine (scale and bias train, statistics stay); frozen (nothing
    # of it moves); recalibrate (as frozen, after its statistics were estimated on train).
    config.train.norm = "train"
    config.train.norm_momentum = ""  # '': the weights' own; a number; kornblith: by steps an epoch
    config.train.batch_size = 32  # of one update, over all devices
    config.train.accumulate = 1  # parts that a batch is computed in, one after the other
    # How parameters, the optimizer's state and the average lie on several devices: replicated,
    # whole on each; or fsdp, divided over them, where memory is short. The numbers are the same.
    config.train.sharding = "replicated"
    config.train.remat = False  # compute blocks again in the backward pass, which saves memory
    config.train.epochs = 10.0
    config.train.steps = 0  # updates, instead of epochs
    config.train.min_steps = 0  # updates at least, where few images make the epochs short
    config.train.rule = ""  # bit: resolution, steps, schedule and MixUp by BiT-HyperRule
    config.train.dtype = "float32"  # or bfloat16: of compute; parameters and statistics are float32
    # softmax; sigmoid (a binary cross-entropy for each class) or focal: see tl/train/losses.py.
    config.train.loss = "softmax"
    config.train.label_smoothing = 0.0
    config.train.dropout = 0.0  # before the head
    # Stochastic depth of vision transformers and ConvNeXt: for this share of the images what the
    # last block adds is left out; for earlier blocks less, down to 0 for the first.
    config.train.drop_path = 0.0
    config.train.ema_decay = 0.0  # of the averaged parameters that are evaluated; 0: no average
    # Steps between evaluations on val; 0: an epoch, or where min_steps makes the run longer, more,
    # so that there are as many evaluations as epochs.
    config.train.eval_every = 0
    config.train.checkpoint_every = 0  # steps between checkpoints beside those of evaluations
    config.train.max_to_keep = 1  # latest checkpoints, beside the best
    # Evaluations without a better one, by val's accuracy or loss, before the run stops; 0: never.
    config.train.patience = 0
    config.train.log_every = 1  # steps between records of metrics.jsonl

    config.optim = ml_collections.ConfigDict()
    config.optim.name = "sgd"  # adam, adamw, lamb, lion, ...: see tl/train/optim.py
    config.optim.learning_rate = 0.01
    config.optim.schedule = "cosine"  # constant, linear, step
    config.optim.warmup = 0.0  # share of the steps over which the learning rate rises
    config.optim.boundaries = (0.3, 0.6, 0.9)  # step: shares of the steps at which it falls
    config.optim.factor = 0.1  # step: to this share of itself
    config.optim.momentum = 0.9
    config.optim.nesterov = True
    config.optim.b1 = 0.9
    config.optim.b2 = 0.999
    config.optim.epsilon = 1e-8
    config.optim.weight_decay = 0.0  # of kernels; never of batch normalisation, biases
    # decoupled: straight off the weights, by learning_rate * weight_decay; l2: in the gradient;
    # l2sp: in the gradient, toward the start point instead of zero.
    config.optim.decay = "decoupled"
    config.optim.clip = 0.0  # largest global norm of the gradient; 0: any
    config.optim.multipliers = ()  # of the learning rate, by stage or pattern: ('head=10',)
    config.optim.layer_decay = 1.0  # of the learning rate from each block to the one before it

    # Augmentation of the training images; see tl/data/augment.py.
    config.augment = ml_collections.ConfigDict()
    config.augment.crop = "none"  # resized: random size and aspect; random: of the resized image
    config.augment.scale = (0.08, 1.0)  # resized: share of the area
    config.augment.ratio = (0.75, 4 / 3)  # resized: width over height
    config.augment.resize = 0  # random: side the image is resized to first; 0: as the weights say
    config.augment.shift = 0.0  # largest translation, as a share of the side
    config.augment.flip = 0.0  # probability of a left-right flip
    config.augment.policy = ""  # randaugment or trivialaugment
    config.augment.num_ops = 2  # randaugment: operations on an image
    config.augment.magnitude = 9.0  # randaugment: 0..30
    config.augment.jitter = (0.0, 0.0, 0.0, 0.0)  # brightness, contrast, saturation, hue
    config.augment.erase = 0.0  # probability of erasing a rectangle
    config.augment.mixup = 0.0  # alpha of MixUp's Beta distribution; 0: off
    config.augment.cutmix = 0.0  # alpha of CutMix's; with both, one of the two by a fair coin

    config.seeds = (0,)  # of the splits and the head; results are averaged
    config.report = True  # write report.html at the end; experiments.report makes it later
    return config
