"""What the GPU section measures of torch: timm's networks, channels last, eager and compiled."""

import contextlib
import functools
from collections.abc import Callable, Sequence
from typing import Any

from experiments.benchmark.gpu_ours import Work
from experiments.benchmark.peers import CLASSES, LEARNING_RATE, labels, timm_model
from experiments.benchmark.timing import Setting, Timing, first_line, sweep


def features(
    backbone: str, size: int, settings: Sequence[Setting], seconds: float, mode: str
) -> Work:
    """Pooled features of normalised images that lie on the device; the result stays there.

    Args:
      backbone, size: as of ours.
      settings: the type may also be `tfloat32`.
      seconds: that a turn takes for each setting.
      mode: of `torch.compile`; '' for eager.
    """
    import torch

    def build(setting: Setting) -> Callable[[], Any]:
        dtype, batch_size = setting
        kind = torch.bfloat16 if dtype == "bfloat16" else torch.float32
        model = timm_model(backbone, size, 0).eval()
        model = model.to(_device(), kind, memory_format=torch.channels_last)
        images = _images(batch_size, size).to(kind)
        forward = torch.compile(model, mode=mode, dynamic=False) if mode else model

        def call() -> Any:
            with torch.inference_mode():
                return forward(images)

        return call

    return _sweep(build, settings, seconds)


def training(
    backbone: str, size: int, settings: Sequence[Setting], seconds: float, mode: str
) -> Work:
    """Training steps on a batch of normalised images that lies on the device; see `features`.

    In bfloat16 they run under autocast, and parameters are float32, as are ours.
    """
    import torch

    def build(setting: Setting) -> Callable[[], Any]:
        dtype, batch_size = setting
        model = timm_model(backbone, size, CLASSES).train()
        model = model.to(_device(), memory_format=torch.channels_last)
        images = _images(batch_size, size)
        targets = torch.from_numpy(labels(batch_size)).long().to(_device())
        optimizer = torch.optim.SGD(model.parameters(), LEARNING_RATE, momentum=0.9)
        forward = torch.compile(model, mode=mode, dynamic=False) if mode else model

        def call() -> Any:
            optimizer.zero_grad()
            if dtype == "bfloat16":
                autocast: Any = torch.autocast(_device(), torch.bfloat16)
            else:
                autocast = contextlib.nullcontext()
            with autocast:
                loss = torch.nn.functional.cross_entropy(forward(images), targets)
            loss.backward()
            optimizer.step()
            return loss.detach()

        return call

    return _sweep(build, settings, seconds)


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _images(batch_size: int, size: int) -> Any:
    import torch

    images = torch.randn(batch_size, 3, size, size, device=_device())
    return images.to(memory_format=torch.channels_last)


def _sweep(
    build: Callable[[Setting], Callable[[], Any]], settings: Sequence[Setting], seconds: float
) -> Work:
    """Builds, compiles and warms up every setting, and returns `timing.sweep` of them."""
    import torch

    torch.backends.cudnn.benchmark = True
    cuda = torch.cuda.is_available()

    def wait(result: Any) -> None:
        if cuda:
            torch.cuda.synchronize()

    def precise(dtype: str) -> None:
        torch.backends.cuda.matmul.allow_tf32 = dtype != "float32"
        torch.backends.cudnn.allow_tf32 = dtype != "float32"

    def call(setting: Setting, of_setting: Callable[[], Any]) -> Any:
        precise(setting[0])
        return of_setting()

    calls, timings = {}, {}
    for setting in settings:
        timings[setting] = timing = Timing()
        try:
            precise(setting[0])
            others = torch.cuda.memory_allocated() if cuda else 0
            of_setting = build(setting)
            for _ in range(3):  # compiled at the first call, captured as a graph at the second
                wait(of_setting())
            if cuda:
                torch.cuda.reset_peak_memory_stats()
                wait(of_setting())
                timing.peak_mib = (torch.cuda.max_memory_allocated() - others) / 2**20
            calls[setting] = functools.partial(call, setting, of_setting)
        except Exception as error:
            timing.error = first_line(error)
    return sweep(calls, timings, wait, seconds)
