"""Classifiers that read coded frames: the network that keeps position, and the fixed normalisation before it."""

from __future__ import annotations

from typing import Annotated, Literal, cast

import torch
from annotated_types import Ge, Le, Lt
from torch import Tensor, nn

from labctl.errors import BadInput
from labctl.frozen import Frozen

MIN_INPUT_PX = 16
"""Below this the three halvings leave one cell, and position is lost."""

POOLED_CELLS = 4
"""Cells along one side after pooling. A coded frame tells things apart by where light falls; one cell forgets it."""


class SmallResidual(Frozen):
    """A small residual network that trains on a CPU: 84 thousand weights at width 16 with 11 classes."""

    type: Literal["small-residual"] = "small-residual"

    width: Annotated[int, Ge(4), Le(128)] = 16
    """Channels after the stem; the two blocks have two and four times as many."""

    dropout: Annotated[float, Ge(0), Lt(1)] = 0.2

    def build(self, in_shape: tuple[int, int], n_classes: int) -> nn.Module:
        """A network from (N, 1, h, w) normalised frames to (N, n_classes) logits; in_shape is (h, w) in pixels.

        First weights come from torch's global generator: seed that before. In `eval` mode an answer does not depend on
        the other frames of the batch. Raises BadInput for frames under 16 px or fewer than two classes.
        """
        check_task(self.type, in_shape, n_classes)
        return ResidualNetwork(self.width, self.dropout, n_classes)


def check_task(network: str, in_shape: tuple[int, int], n_classes: int) -> None:
    """Raise BadInput when frames of `in_shape` are too small for three halvings, or there is nothing to decide."""
    if min(in_shape) < MIN_INPUT_PX:
        raise BadInput(
            f"frames of {in_shape[0]}x{in_shape[1]} px are too small for {network}; at least {MIN_INPUT_PX} px each "
            "way are needed; use a larger scene or fewer mask cells"
        )
    if n_classes < 2:
        raise BadInput(f"n_classes is {n_classes}; at least 2 are needed to decide between")


class Normalisation(nn.Module):
    """Subtracts the mean training frame and divides by one number: fixed, never per frame.

    A per-frame scale would hide how much light the mask passed, and a per-pixel scale would amplify dark corners.
    Mean, scale and whether they were fitted travel in the state dict.
    """

    mean_frame: Tensor
    std: Tensor
    fitted: Tensor

    def __init__(self, in_shape: tuple[int, int]) -> None:
        super().__init__()
        self.register_buffer("mean_frame", torch.zeros(in_shape))
        self.register_buffer("std", torch.ones(()))
        self.register_buffer("fitted", torch.zeros((), dtype=torch.bool))

    @torch.no_grad()
    def fit(self, frames: Tensor) -> None:
        """Take mean frame and scale from training frames (N, 1, h, w), N of at least 2, in the unit they will come in.

        The scale is the standard deviation of all pixels around the mean frame, so fitted frames have variance 1.
        Raises BadInput for another shape, non-finite values, or frames that are all the same.
        """
        self._check_shape(frames)
        if frames.shape[0] < 2:
            raise BadInput(f"{frames.shape[0]} frames cannot show how frames differ; give at least 2 to fit")
        values = frames.to(torch.float64)
        mean = values.mean(dim=0)
        std = (values - mean).square().mean().sqrt()
        if not torch.isfinite(std):
            raise BadInput("training frames hold NaN or infinite values; only finite frames can be fitted")
        # Rounding alone leaves about 1e-8 of the level between equal float32 frames.
        if float(std) <= 1e-7 * float(values.abs().max()):
            raise BadInput("all training frames are the same, so there is no scale; check mask, shutter and exposure")
        self.mean_frame.copy_(mean[0])
        self.std.copy_(std)
        self.fitted.fill_(True)

    def forward(self, frames: Tensor) -> Tensor:
        """(N, 1, h, w) frames to the same shape, normalised. Raises BadInput before `fit` or for another shape."""
        if not bool(self.fitted):
            raise BadInput("this normalisation has no statistics yet; call fit(training_frames) or load a state dict")
        self._check_shape(frames)
        return (frames - self.mean_frame) / self.std

    def _check_shape(self, frames: Tensor) -> None:
        h, w = self.mean_frame.shape
        if frames.ndim != 4 or tuple(frames.shape[1:]) != (1, h, w):
            raise BadInput(f"frames have shape {tuple(frames.shape)}; (N, 1, {h}, {w}) is needed")


class Classifier(nn.Module):
    """Normalisation and network as one: measured frames (N, 1, h, w) in, logits (N, n_classes) out."""

    def __init__(self, network: nn.Module, in_shape: tuple[int, int]) -> None:
        super().__init__()
        self.normalisation = Normalisation(in_shape)
        self.network = network

    def forward(self, frames: Tensor) -> Tensor:
        """Logits. Call `normalisation.fit` with training frames first."""
        return cast(Tensor, self.network(self.normalisation(frames)))


class ResidualNetwork(nn.Module):
    """5x5 stem with stride 2, two residual blocks with stride 2, pooling to 4x4 cells, dropout, one linear layer."""

    def __init__(self, width: int, dropout: float, n_classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, width, 5, stride=2, padding=2, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.blocks = nn.Sequential(ResidualBlock(width, 2 * width), ResidualBlock(2 * width, 4 * width))
        self.pool = nn.AdaptiveAvgPool2d(POOLED_CELLS)
        self.head = nn.Sequential(
            nn.Flatten(), nn.Dropout(dropout), nn.Linear(4 * width * POOLED_CELLS * POOLED_CELLS, n_classes)
        )

    def forward(self, frames: Tensor) -> Tensor:
        """(N, 1, h, w) to (N, n_classes) logits."""
        return cast(Tensor, self.head(self.pool(self.blocks(self.stem(frames)))))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut; the first has the stride. [He et al. 2016]

    The shortcut is the identity where shape allows, else a 1x1 convolution.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int = 2) -> None:
        super().__init__()
        self.path = nn.Sequential(
            nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(channels_out),
            nn.ReLU(),
            nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels_out),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels_out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels_out, 1, stride=stride, bias=False), nn.BatchNorm2d(channels_out)
            )

    def forward(self, features: Tensor) -> Tensor:
        """(N, channels_in, h, w) to (N, channels_out, ceil(h / stride), ceil(w / stride))."""
        return torch.relu(self.path(features) + self.shortcut(features))


@torch.no_grad()
def settle_batch_norm(classifier: Classifier, frames: Tensor, *, batch: int = 64) -> None:
    """Take the statistics of batch normalisation anew from (N, 1, h, w) training frames, as a plain mean over batches.

    While training they follow with a lag of some ten steps; after a short training they would describe a network that
    is no more. Weights stay as they are. Does nothing for a network without batch normalisation.
    """
    layers = [module for module in classifier.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = [layer.momentum for layer in layers]
    classifier.eval()  # what else knows a training mode, such as dropout, must not stir the statistics
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None
        layer.train()
    try:
        for start in range(0, len(frames), batch):
            if layers and len(frames[start : start + batch]) > 1:
                classifier(frames[start : start + batch])
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        classifier.eval()
