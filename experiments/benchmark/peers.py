"""Networks of other frameworks, as their users would run them: a factory each (`contest`)."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

# Backbone to the name of the same network in keras.applications.
KERAS = {f"resnet{depth}": f"ResNet{depth}" for depth in (50, 101, 152)}

CLASSES = 10
LEARNING_RATE = 1e-3

Work = Callable[[], Any]


def warm(work: Work) -> Work:
    """Returns a function after it has run once, and compiled what it runs."""
    work()
    return work


def timm_model(backbone: str, size: int, num_classes: int) -> Any:
    """Returns timm's network of the same architecture, for images of one size."""
    import timm

    from tl.models import registry, vit
    from tl.weights import timm_names

    name = backbone if timm.is_model(backbone) else timm_names.name_of(backbone, {})[0]
    has_positions = registry.get(backbone).module is vit.VisionTransformer
    arguments = {"img_size": size} if has_positions else {}
    return timm.create_model(name, num_classes=num_classes, **arguments)


def flax_forward(backbone: str, size: int, batch_size: int, dtype: str) -> Work:
    """The same architecture as anybody would write it in Flax."""
    import jax
    import jax.numpy as jnp

    from experiments.benchmark.native import plain_layers, pooled
    from experiments.benchmark.synthetic import random_network

    network = random_network(backbone, size)
    model = network.model.clone(dtype=jnp.dtype(dtype))
    variables = jax.device_put(network.variables)
    forward = jax.jit(functools.partial(pooled, model))
    images = float_images(batch_size, size)
    with plain_layers():  # needed while it is traced
        return warm(lambda: np.asarray(forward(variables, images)))


def keras_forward(backbone: str, size: int, batch_size: int, dtype: str) -> Work:
    """Keras' own model on its JAX backend."""
    import keras

    keras.config.set_dtype_policy(dtype)
    build = getattr(keras.applications, KERAS[backbone])
    model = build(weights=None, include_top=False, pooling="avg", input_shape=(size, size, 3))
    images = float_images(batch_size, size)
    return warm(lambda: np.asarray(model.predict_on_batch(images)))


def torch_forward(backbone: str, size: int, batch_size: int, dtype: str) -> Work:
    """The model of timm, channels last."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    kind = getattr(torch, dtype)
    model = timm_model(backbone, size, 0).eval()
    model = model.to(device, kind, memory_format=torch.channels_last)
    images = torch.from_numpy(float_images(batch_size, size)).permute(0, 3, 1, 2)
    images = images.to(device, kind, memory_format=torch.channels_last)

    def work() -> np.ndarray:
        with torch.inference_mode():
            return model(images).float().cpu().numpy()

    return warm(work)


def export_onnx(backbone: str, size: int, batch_size: int, path: str) -> None:
    """Writes the model of timm as ONNX, for batches of one size."""
    import torch

    model = timm_model(backbone, size, 0).eval()
    torch.onnx.export(model, (torch.zeros(batch_size, 3, size, size),), path, verbose=False)


def onnxruntime_forward(path: str, size: int, batch_size: int) -> Work:
    """ONNX Runtime on an exported model."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    # Its threads would otherwise go on spinning into the next contestant's turn.
    settings.add_session_config_entry("session.force_spinning_stop", "1")
    known = onnxruntime.get_available_providers()
    providers = [p for p in ("CUDAExecutionProvider", "CPUExecutionProvider") if p in known]
    session = onnxruntime.InferenceSession(path, settings, providers=providers)
    name = session.get_inputs()[0].name
    images = np.ascontiguousarray(float_images(batch_size, size).transpose(0, 3, 1, 2))
    return warm(lambda: session.run(None, {name: images})[0])


def flax_step(backbone: str, size: int, batch_size: int) -> Work:
    """The step of Flax's own examples, of the same architecture of Flax's own layers."""
    import jax
    import jax.numpy as jnp
    import optax

    from experiments.benchmark.native import plain_layers
    from experiments.benchmark.synthetic import random_network

    network = random_network(backbone, size, CLASSES)
    tx = optax.sgd(LEARNING_RATE, momentum=0.9)
    variables = jax.tree.map(jnp.array, network.variables)
    state = variables["params"], variables["batch_stats"], tx.init(variables["params"])
    images, targets = float_images(batch_size, size), labels(batch_size)

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state: Any, images: jax.Array, labels: jax.Array) -> tuple[Any, jax.Array]:
        params, batch_stats, opt_state = state

        def mean_loss(params: Any) -> tuple[jax.Array, Any]:
            variables = {"params": params, "batch_stats": batch_stats}
            outputs, updated = network.model.apply(
                variables, images, train=True, mutable=["batch_stats"]
            )
            losses = optax.softmax_cross_entropy_with_integer_labels(outputs["logits"], labels)
            return losses.mean(), updated.get("batch_stats", {})

        (loss, batch_stats), grads = jax.value_and_grad(mean_loss, has_aux=True)(params)
        updates, opt_state = tx.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), batch_stats, opt_state), loss

    def work() -> float:
        nonlocal state
        state, loss = step(state, images, targets)
        return float(loss)

    with plain_layers():  # needed while it is traced
        return warm(work)


def torch_step(backbone: str, size: int, batch_size: int) -> Work:
    """The loop body of any PyTorch script, channels last."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = timm_model(backbone, size, CLASSES).train()
    model = model.to(device, memory_format=torch.channels_last)
    images = torch.from_numpy(float_images(batch_size, size)).permute(0, 3, 1, 2)
    images = images.to(device, memory_format=torch.channels_last)
    targets = torch.from_numpy(labels(batch_size)).long().to(device)
    optimizer = torch.optim.SGD(model.parameters(), LEARNING_RATE, momentum=0.9)

    def work() -> float:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(images), targets)
        loss.backward()
        optimizer.step()
        return loss.item()

    return warm(work)


def float_images(batch_size: int, size: int) -> np.ndarray:
    """Returns images as those who call these networks have them ready, float32 NHWC."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((batch_size, size, size, 3), np.float32)


def labels(count: int) -> np.ndarray:
    """Returns int32 `[count]`, every class in turn."""
    return np.arange(count, dtype=np.int32) % CLASSES
