"""Inception blocks inflated to 3D. [Carreira and Zisserman 2017]"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from protocols.video.networks.of_clips import TimeSecond

Block = tuple[int, int, int, int, int, int]

BLOCKS: tuple[tuple[Block, ...], ...] = (
    ((64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64)),
    (
        (192, 96, 208, 16, 48, 64),
        (160, 112, 224, 24, 64, 64),
        (128, 128, 256, 24, 64, 64),
        (112, 144, 288, 32, 64, 64),
        (256, 160, 320, 32, 128, 128),
    ),
    ((256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128)),
)
"""Of each stage and block, at width 64: channels of the 1x1x1 branch, of both layers of the two 3x3x3 branches, and
of the pooled branch. [Szegedy et al. 2015]"""


class I3d(nn.Module):
    """7x7x7 stem, two convolutions, nine inception blocks, global pooling."""

    def __init__(self, channels: int, width: int, dropout: float, n_classes: int) -> None:
        super().__init__()
        first, mixed = width, max(1, 192 * width // 64)
        layers: list[nn.Module] = [
            TimeSecond(),
            # Time is padded apart: the oneDNN of torch 2.13 writes out of bounds in the backward pass where a strided
            # kernel reaches beyond both ends of a clip, as 7 does at stride 2 of 5 frames.
            nn.ConstantPad3d((0, 0, 0, 0, 3, 3), 0.0),
            nn.Conv3d(channels, first, 7, stride=2, padding=(0, 3, 3), bias=False),
            *_normalised(first),
            nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1)),
            *_conv(first, first, 1),
            *_conv(first, mixed, 3),
            nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1)),
        ]
        pools = (None, nn.MaxPool3d(3, stride=2, padding=1), nn.MaxPool3d(2, stride=2, ceil_mode=True))
        before = mixed
        for pool, blocks in zip(pools, BLOCKS, strict=True):
            layers += [pool] if pool is not None else []
            for block in blocks:
                inception = _Inception(before, [max(1, part * width // 64) for part in block])
                layers.append(inception)
                before = inception.channels
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(before, n_classes)
        )

    def forward(self, clips: Tensor) -> Tensor:
        """(n, T, C, h, w) to (n, n_classes) logits."""
        return cast(Tensor, self.head(self.features(clips)))


class _Inception(nn.Module):
    """Four branches side by side: 1x1x1, twice 1x1x1 and 3x3x3, and pooling with 1x1x1."""

    def __init__(self, before: int, parts: list[int]) -> None:
        super().__init__()
        single, narrow, wide, narrower, less_wide, pooled = parts
        self.channels = single + wide + less_wide + pooled
        self.branches = nn.ModuleList(
            [
                nn.Sequential(*_conv(before, single, 1)),
                nn.Sequential(*_conv(before, narrow, 1), *_conv(narrow, wide, 3)),
                nn.Sequential(*_conv(before, narrower, 1), *_conv(narrower, less_wide, 3)),
                nn.Sequential(nn.MaxPool3d(3, stride=1, padding=1), *_conv(before, pooled, 1)),
            ]
        )

    def forward(self, features: Tensor) -> Tensor:
        return torch.cat([branch(features) for branch in self.branches], dim=1)


def _conv(before: int, after: int, side: int) -> list[nn.Module]:
    convolution = nn.Conv3d(before, after, side, padding=side // 2, bias=False)
    return [convolution, *_normalised(after)]


def _normalised(channels: int) -> list[nn.Module]:
    return [nn.BatchNorm3d(channels, eps=1e-3), nn.ReLU()]
