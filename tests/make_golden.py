"""Writes tests/golden: tiny networks saved by the frameworks themselves, with what they compute.

    KERAS_BACKEND=jax python -m tests.make_golden

needs torch, transformers, timm, keras and h5py. Every file holds random weights with nothing at its
initial value; the `.npz` beside it holds an input `x` [N, H, W, 3] and every endpoint, NHWC.
"""

import os
import pathlib
import re
import shutil
import sys
import tempfile
import types

os.environ.setdefault("KERAS_BACKEND", "jax")

import numpy as np

# torchvision, which timm imports, does not import itself beside a PyTorch without its compiled
# operators; none of them is needed here.
for _name in ("torchvision._meta_registrations", "torchvision._autograd_registrations"):
    sys.modules.setdefault(_name, types.ModuleType(_name))

GOLDEN = pathlib.Path(__file__).parent / "golden"
CLASSES = 10
ENDPOINTS = ("stem", "stage1", "stage2", "stage3", "stage4", "pooled", "logits")
TIMM_MODULES = ("maxpool", "layer1", "layer2", "layer3", "layer4", "global_pool", "fc")
HF_MODULES = (
    "resnet.embedder",
    *(f"resnet.encoder.stages.{i}" for i in range(4)),
    "resnet.pooler",
    "classifier",
)


def images(count: int, height: int, width: int) -> np.ndarray:
    """Returns noise `[count, height, width, 3]`; even sides, where paddings differ."""
    return np.random.default_rng(0).normal(size=(count, height, width, 3)).astype(np.float32)


def tiny_timm():
    """Returns timm's ResNet with bottlenecks of 4, 6, 8 and 10 channels."""
    from timm.models.resnet import Bottleneck, ResNet

    return ResNet(Bottleneck, (2, 1, 1, 1), num_classes=CLASSES, channels=(4, 6, 8, 10))


def hf_resnet(**config):
    """Returns a transformers ResNet."""
    from transformers import ResNetConfig, ResNetForImageClassification

    return ResNetForImageClassification(ResNetConfig(**config))


def tiny_hf(layer_type: str):
    """Returns transformers' ResNet of 16, 24, 32 and 40 channels, or half of them."""
    width = 8 if layer_type == "bottleneck" else 4
    return hf_resnet(
        layer_type=layer_type,
        embedding_size=8,
        hidden_sizes=[width * n for n in (2, 3, 4, 5)],
        depths=[2, 1, 1, 1],
        num_labels=CLASSES,
    )


def tiny_keras():
    """Returns Keras' ResNet with bottlenecks of 4, 6, 8 and 10 channels."""
    from keras.src.applications import resnet

    def stacks(x):
        for i, (filters, blocks) in enumerate(((4, 2), (6, 1), (8, 1), (10, 1))):
            stride = 1 if i == 0 else 2
            x = resnet.stack_residual_blocks_v1(
                x, filters, blocks, stride1=stride, name=f"conv{i + 2}"
            )
        return x

    return resnet.ResNet(
        stacks,
        preact=False,
        use_bias=True,
        weights=None,
        classes=CLASSES,
        input_shape=(48, 40, 3),
        classifier_activation=None,
    )


def randomise_torch(model, seed: int = 0):
    """Gives every normalisation random values, and every token and scale; returns `model`."""
    import torch

    torch.manual_seed(seed)
    for name, parameter in model.named_parameters():
        if re.search(
            r"token|pos_?e|position_emb|[qv]_bias|latent|probe|in_proj_bias|gamma|lambda1|layer_scale|grn",
            name,
        ):
            torch.nn.init.normal_(parameter, 0, 0.5)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.2, 0.8)
            torch.nn.init.normal_(module.bias, 0, 0.2)
            torch.nn.init.normal_(module.running_mean, 0, 0.3)
            torch.nn.init.uniform_(module.running_var, 0.05, 1.55)
        if isinstance(module, torch.nn.Linear):  # timm's are so small that attention is even
            torch.nn.init.normal_(module.weight, 0, module.in_features**-0.5)
            if module.bias is not None:
                torch.nn.init.normal_(module.bias, 0, 0.2)
        if isinstance(module, torch.nn.LayerNorm | torch.nn.GroupNorm):
            torch.nn.init.uniform_(module.weight, 0.2, 0.8)
            torch.nn.init.normal_(module.bias, 0, 0.2)
    return model.eval()


def torch_endpoints(model, modules, x: np.ndarray, endpoints=ENDPOINTS) -> dict[str, np.ndarray]:
    """Returns what the named modules compute for `x`, one for each of the endpoints."""
    import torch

    found = {}
    handles = [
        model.get_submodule(module).register_forward_hook(
            lambda _module, _inputs, output, endpoint=endpoint: found.update({endpoint: output})
        )
        for endpoint, module in zip(endpoints, modules, strict=True)
    ]
    with torch.no_grad():
        model(torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2))))
    for handle in handles:
        handle.remove()
    tensors = {name: getattr(value, "pooler_output", value) for name, value in found.items()}
    arrays = {name: value.numpy() for name, value in tensors.items()}
    if arrays["pooled"].ndim == 3:  # the normalised tokens of a vision transformer
        arrays["pooled"] = arrays["pooled"][:, 0]
    arrays["pooled"] = arrays["pooled"].reshape(len(x), -1)
    return {k: v.transpose(0, 2, 3, 1) if v.ndim == 4 else v for k, v in arrays.items()}


VIT_ENDPOINTS = ("embed", "block1", "block2", "pooled", "logits")
TIMM_VIT_MODULES = ("norm_pre", "blocks.0", "blocks.1", "norm", "head")


def tiny_timm_vit(**arguments):
    """Returns timm's vision transformer of two blocks."""
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(
        img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=3, num_classes=CLASSES,
        dynamic_img_size=True, **arguments,
    )  # fmt: skip


def tiny_timm_dinov3(**arguments):
    """Returns timm's DINOv3 of two blocks."""
    import functools

    from timm.layers import LayerNorm
    from timm.models.eva import Eva

    return Eva(
        img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=3, num_classes=CLASSES,
        qkv_bias=False, init_values=1e-5, rope_type="dinov3", rope_temperature=100,
        rope_rotate_half=True, use_rot_pos_emb=True, use_abs_pos_emb=False, num_reg_tokens=2,
        use_fc_norm=False, norm_layer=functools.partial(LayerNorm, eps=1e-5), global_pool="token",
        dynamic_img_size=True, **arguments,
    )  # fmt: skip


def tiny_torchvision_vit():
    """Returns torchvision's vision transformer of two blocks."""
    from torchvision.models import VisionTransformer

    return VisionTransformer(32, 8, 2, 3, 24, 96, num_classes=CLASSES)


def tiny_hf_vit(kind: str, **more):
    """Returns a ViT of transformers or a relative, of two blocks, with a head if it has one."""
    import transformers

    hidden = {} if kind.startswith("Dinov2") else {"intermediate_size": 96}
    config = getattr(transformers, f"{kind}Config")(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=3, patch_size=8, image_size=32,
        num_labels=CLASSES, **hidden, **more,
    )  # fmt: skip
    classifier = getattr(transformers, f"{kind}ForImageClassification", None)
    return (classifier or getattr(transformers, f"{kind}Model"))(config)


def hf_vit_outputs(model, x: np.ndarray, depth: int = 2) -> dict[str, np.ndarray]:
    """Returns what transformers computes for `x` at every endpoint but the logits.

    `pooled` is its pooler's output of a vision model for images and texts, else the class token.
    """
    import torch

    alone = "DINOv3" in type(model).__name__  # its `base_model` is the encoder
    network = getattr(model, "vision_model", model if alone else model.base_model)
    pixels = torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))
    kind = type(network).__name__
    resized = kind.startswith(("ViT", "CLIP", "Siglip"))
    arguments = {"interpolate_pos_encoding": True} if resized else {}
    with torch.no_grad():
        found = network(pixels, output_hidden_states=True, **arguments)
    names = ("embed", *(f"block{i + 1}" for i in range(depth)))
    values = dict(zip(names, found.hidden_states, strict=True))
    cls = found.last_hidden_state[:, 0]
    values["pooled"] = found.pooler_output if kind.endswith("VisionModel") else cls
    return {name: value.numpy() for name, value in values.items()}


def randomise_keras(model, seed: int = 0):
    """Gives every normalisation and every convolution's bias random values; returns `model`."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if layer.name.endswith("_bn"):
            n = layer.gamma.shape[0]
            layer.set_weights(
                [
                    rng.uniform(0.2, 0.8, n),
                    rng.normal(0, 0.2, n),
                    rng.normal(0, 0.3, n),
                    rng.uniform(0.05, 1.55, n),
                ]
            )
        elif layer.name.endswith("_conv"):
            kernel, bias = layer.get_weights()
            layer.set_weights([kernel, rng.normal(0, 0.2, bias.shape)])
    return model


def keras_endpoints(model, blocks: tuple[int, ...], x: np.ndarray) -> dict[str, np.ndarray]:
    """Returns what a Keras ResNet of these blocks a stage computes for `x`."""
    import keras

    names = [
        "pool1_pool",
        *(f"conv{i + 2}_block{n}_out" for i, n in enumerate(blocks)),
        "avg_pool",
        "predictions",
    ]
    outputs = [model.get_layer(name).output for name in names]
    found = keras.Model(model.input, outputs)(x)
    return dict(zip(ENDPOINTS, map(np.asarray, found), strict=True))


def write_torch() -> None:
    """Writes transformers' and timm's files."""
    import safetensors.torch
    import torch

    torch.manual_seed(0)
    x = images(1, 48, 40)
    for kind in ("bottleneck", "basic"):
        model = randomise_torch(tiny_hf(kind))
        safetensors.torch.save_file(model.state_dict(), GOLDEN / f"hf_{kind}.safetensors")
        np.savez_compressed(GOLDEN / f"hf_{kind}.npz", x=x, **torch_endpoints(model, HF_MODULES, x))
    model = randomise_torch(tiny_timm())
    torch.save(model.state_dict(), GOLDEN / "timm_zip.pth")
    torch.save(model.state_dict(), GOLDEN / "timm_legacy.pth", _use_new_zipfile_serialization=False)
    np.savez_compressed(GOLDEN / "timm.npz", x=x, **torch_endpoints(model, TIMM_MODULES, x))


def write_vit(*chosen: str) -> None:
    """Writes the files of vision transformers, with outputs at the size of their positions and not.

    Args:
      *chosen: names of networks to write alone.
    """
    import safetensors.torch
    import torch

    small, large = images(1, 32, 32), images(1, 40, 24)
    networks = {
        "timm_vit": (
            tiny_timm_vit(init_values=1e-5, reg_tokens=2, no_embed_class=True),
            TIMM_VIT_MODULES,
        ),
        "torchvision_vit": (tiny_torchvision_vit(), None),
        "hf_vit": (tiny_hf_vit("ViT"), None),
        "hf_dinov2": (tiny_hf_vit("Dinov2"), None),
        "hf_dinov2_registers": (tiny_hf_vit("Dinov2WithRegisters", num_register_tokens=2), None),
        "hf_clip": (tiny_hf_vit("CLIPVision"), None),
        "hf_siglip": (tiny_hf_vit("SiglipVision"), None),
        "timm_dinov3": (tiny_timm_dinov3(), TIMM_VIT_MODULES),
        "hf_dinov3": (
            tiny_hf_vit("DINOv3ViT", num_register_tokens=2, use_gated_mlp=True, hidden_act="silu"),
            None,
        ),
        "timm_siglip": (
            tiny_timm_vit(class_token=False, global_pool="map"),
            ("norm_pre", "blocks.0", "blocks.1", "attn_pool", "head"),
        ),
    }
    for name, (network, modules) in networks.items():
        if chosen and name not in chosen:
            continue
        model = randomise_torch(network)
        if name.startswith("hf_"):  # saves other names than those in memory
            with tempfile.TemporaryDirectory() as folder:
                model.save_pretrained(folder)
                shutil.copy(f"{folder}/model.safetensors", GOLDEN / f"{name}.safetensors")
        else:
            safetensors.torch.save_file(model.state_dict(), GOLDEN / f"{name}.safetensors")
        outputs = {}
        for key, x in (("small", small), ("large", large)):
            if modules:
                found = torch_endpoints(model, modules, x, VIT_ENDPOINTS)
            elif name == "torchvision_vit":
                if key == "large":
                    continue  # which it does not take
                with torch.no_grad():
                    logits = model(torch.from_numpy(x.transpose(0, 3, 1, 2).copy()))
                found = {"logits": logits.numpy()}
            else:
                found = hf_vit_outputs(model, x)
            outputs |= {f"{key}/{endpoint}": value for endpoint, value in found.items()}
            outputs[f"{key}/x"] = x
        np.savez_compressed(GOLDEN / f"{name}.npz", **outputs)
    if not chosen:
        write_positions()


def write_positions() -> None:
    """Writes a table of positions, and what torch and timm make of it for other images."""
    import torch
    from timm.layers.pos_embed import resample_abs_pos_embed

    table = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 49, 5)).astype(np.float32))
    square = table.reshape(1, 7, 7, 5).permute(0, 3, 1, 2)
    resized = {}
    for rows, columns in ((4, 4), (5, 9), (10, 7)):
        resized[f"antialias/{rows}x{columns}"] = resample_abs_pos_embed(
            table, [rows, columns], num_prefix_tokens=0
        )
        for how, scale in (
            ("plain", {"size": (rows, columns)}),
            ("offset", {"scale_factor": ((rows + 0.1) / 7, (columns + 0.1) / 7)}),
        ):
            new = torch.nn.functional.interpolate(square, mode="bicubic", **scale)
            resized[f"{how}/{rows}x{columns}"] = new.permute(0, 2, 3, 1).reshape(1, -1, 5)
    arrays = {name: value.numpy() for name, value in resized.items()}
    np.savez_compressed(GOLDEN / "positions.npz", table=table.numpy(), **arrays)


def write_keras() -> None:
    """Writes Keras' four layouts."""
    import h5py
    import keras
    from keras.src.legacy.saving import legacy_h5_format

    keras.utils.set_random_seed(0)
    x = images(1, 48, 40)
    model = randomise_keras(tiny_keras())
    model.save_weights(GOLDEN / "keras.weights.h5")
    model.save(GOLDEN / "keras.keras")
    model.save(GOLDEN / "keras_model.h5")
    with h5py.File(GOLDEN / "keras_legacy.h5", "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, model)
    np.savez_compressed(GOLDEN / "keras.npz", x=x, **keras_endpoints(model, (2, 1, 1, 1), x))


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    write_torch()
    write_vit()
    write_keras()
    for path in sorted(GOLDEN.iterdir()):
        print(f"{path.stat().st_size:9,} {path.name}")
