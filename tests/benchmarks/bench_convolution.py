"""Our convolution against the bare methods, forward and with gradients, on one thread as in training.

The floors do nothing but the arithmetic: no checks, no choice. The Fourier floor already has our transform, the
smallest that keeps wrap-around out of the picture; padding to the full size is shown beside it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any, Literal

import pytest
import torch
import torch.nn.functional as F
from scipy.fft import next_fast_len
from torch import Tensor

from sim.optics.convolution import Border, convolve, transform_shape

THREADS = 1
PASSES = 5
SECONDS_PER_PASS = 0.15
SLOW_PRODUCTS = 1e8
"""From so many multiplications on, direct methods take so much longer than Fourier that one pass tells enough."""

Direction = Literal["forward", "forward and backward to the PSF", "forward and backward to both"]
DIRECTIONS: tuple[Direction, ...] = (
    "forward",
    "forward and backward to the PSF",
    "forward and backward to both",
)


@dataclass(frozen=True)
class Size:
    """Shapes of one comparison: scene (N, C, H, W) and PSF (1 or N, 1 or C, h, w)."""

    name: str
    scene: tuple[int, int, int, int]
    psf: tuple[int, int, int, int]
    border: Border

    @property
    def start(self) -> tuple[int, int]:
        divide = 1 if self.border == "valid" else 2
        return (self.psf[2] - 1) // divide, (self.psf[3] - 1) // divide

    @property
    def size(self) -> tuple[int, int]:
        rows, columns = self.scene[2:]
        return (rows, columns) if self.border == "same" else (rows - self.psf[2] + 1, columns - self.psf[3] + 1)

    @property
    def full(self) -> tuple[int, int]:
        return self.scene[2] + self.psf[2] - 1, self.scene[3] + self.psf[3] - 1

    @property
    def products(self) -> int:
        return prod(self.scene[:2]) * prod(self.size) * prod(self.psf[2:])


SIZES = [
    Size("63/32, one mask", (32, 1, 63, 63), (1, 1, 32, 32), "valid"),
    Size("63/32, a mask each", (32, 1, 63, 63), (32, 1, 32, 32), "valid"),
    Size("127/64, one mask", (32, 1, 127, 127), (1, 1, 64, 64), "valid"),
    Size("127/64, a mask each", (32, 1, 127, 127), (32, 1, 64, 64), "valid"),
    Size("480x270 RGB", (1, 3, 270, 480), (1, 3, 270, 480), "same"),
    Size("480x270 RGB, batch of 4", (4, 3, 270, 480), (1, 3, 270, 480), "same"),
    Size("63/3", (32, 1, 63, 63), (1, 1, 3, 3), "same"),
    Size("63/7", (32, 1, 63, 63), (1, 1, 7, 7), "same"),
    Size("480x270 RGB/3", (1, 3, 270, 480), (1, 3, 3, 3), "same"),
    Size("480x270 RGB/7", (1, 3, 270, 480), (1, 3, 7, 7), "same"),
]

Method = Callable[[Tensor, Tensor], Tensor]


def fourier(size: Size, grid: tuple[int, int]) -> Method:
    """Bare rfft2, multiply, irfft2, cut."""
    (top, left), (rows, columns) = size.start, size.size

    def run(scene: Tensor, psf: Tensor) -> Tensor:
        spectrum = torch.fft.rfft2(scene, s=grid) * torch.fft.rfft2(psf, s=grid)
        return torch.fft.irfft2(spectrum, s=grid)[..., top : top + rows, left : left + columns]

    return run


def direct(size: Size) -> Method:
    """conv2d with the flipped PSF as the one kernel of a batch, or of each colour."""
    padding = (0, 0) if size.border == "valid" else size.start

    def grey(scene: Tensor, psf: Tensor) -> Tensor:
        flat = F.conv2d(scene.flatten(0, 1).unsqueeze(1), psf.flip(-2, -1), padding=padding)
        return flat.unflatten(0, scene.shape[:2]).squeeze(2)

    def colour(scene: Tensor, psf: Tensor) -> Tensor:
        return F.conv2d(scene, psf[0].unsqueeze(1).flip(-2, -1), padding=padding, groups=psf.shape[1])

    return grey if size.psf[1] == 1 else colour


def grouped(size: Size) -> Method:
    """conv2d with one group for each picture."""
    padding = (0, 0) if size.border == "valid" else size.start

    def run(scene: Tensor, psf: Tensor) -> Tensor:
        pictures = prod(scene.shape[:2])
        kernel = psf.flip(-2, -1).expand(*scene.shape[:2], -1, -1).reshape(pictures, 1, *psf.shape[-2:])
        flat = F.conv2d(scene.reshape(1, pictures, *scene.shape[-2:]), kernel, padding=padding, groups=pictures)
        return flat.reshape(*scene.shape[:2], *flat.shape[-2:])

    return run


def methods(size: Size) -> Iterator[tuple[str, str, Method]]:
    """Role, label and method of everything that is compared at one size; direct ones where they end in time."""
    rows, columns = (next_fast_len(length, real=True) for length in size.full)
    yield "ours", "convolve", lambda scene, psf: convolve(scene, psf, size.border)
    yield (
        "floor",
        "rfft2, multiply, irfft2",
        fourier(size, transform_shape(size.scene[2:], size.psf[2:], size.start, size.size)),
    )
    yield "other", "the same, padded to the full size", fourier(size, (rows, columns))
    if size.products < 1e10:
        yield "floor", "grouped conv2d", grouped(size)
        if size.psf[0] == 1:
            yield "floor", "direct conv2d", direct(size)


def comparisons() -> Iterator[Any]:
    """One benchmark for each size, direction, pass and method, in this order: methods alternate."""
    for size, direction, turn in product(SIZES, DIRECTIONS, range(PASSES)):
        for role, label, method in methods(size):
            if turn == 0 or "conv2d" not in label or size.products < SLOW_PRODUCTS:
                yield pytest.param(size, direction, role, label, method, id=f"{size.name}-{direction}-{label}-{turn}")


def _rounds(run: Callable[[], None]) -> int:
    """As many calls as fit into a pass."""
    start = time.perf_counter()
    run()
    return max(1, min(200, int(SECONDS_PER_PASS / (time.perf_counter() - start))))


@pytest.fixture(autouse=True)
def _training_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("size", "direction", "role", "label", "method"), list(comparisons()))
def test_convolution(benchmark: Any, size: Size, direction: Direction, role: str, label: str, method: Method) -> None:
    generator = torch.Generator().manual_seed(0)
    scene, psf = torch.rand(size.scene, generator=generator), torch.rand(size.psf, generator=generator)
    slope = torch.rand(*size.scene[:2], *size.size, generator=generator)
    scene.requires_grad_(direction == "forward and backward to both")
    psf.requires_grad_(direction != "forward")
    wanted = [tensor for tensor in (scene, psf) if tensor.requires_grad]

    def run() -> None:
        image = method(scene, psf)
        if wanted:
            torch.autograd.grad(image, wanted, slope)

    torch.testing.assert_close(method(scene, psf), convolve(scene, psf, size.border), rtol=1e-3, atol=1e-3)
    benchmark.group = f"{size.name}, {direction}"
    benchmark.extra_info.update(ratio_group=benchmark.group, role=role, label=label)
    benchmark.pedantic(run, rounds=_rounds(run), warmup_rounds=1)
