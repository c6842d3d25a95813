"""A U-Net over space and time, from clips to clips of the same size. [Cicek et al. 2016]"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn


class UNet3d(nn.Module):
    """Two halvings in space, time kept, and a direct path; 59 thousand weights for one channel at width 8."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        w = width
        self.first, self.second, self.deepest = _double(channels, w), _double(w, 2 * w), _double(2 * w, 4 * w)
        self.upper, self.last = _double(6 * w, 2 * w), _double(3 * w, w)
        self.out, self.direct = nn.Conv3d(w, 1, 1), nn.Conv3d(channels, 1, 1)
        for weight in (*self.out.parameters(), *self.direct.parameters()):
            nn.init.zeros_(weight)  # nothing is added at first
        self.halve = nn.AvgPool3d((1, 2, 2), ceil_mode=True)

    def forward(self, clips: Tensor) -> Tensor:
        """(n, T, C, h, w) to (n, T, 1, h, w)."""
        given = clips.transpose(1, 2)
        large = self.first(given)
        middle = self.second(self.halve(large))
        small = self.deepest(self.halve(middle))
        middle = self.upper(torch.cat([_as_large(small, middle), middle], dim=1))
        large = self.last(torch.cat([_as_large(middle, large), large], dim=1))
        return cast(Tensor, (self.out(large) + self.direct(given)).transpose(1, 2))


def _as_large(small: Tensor, large: Tensor) -> Tensor:
    return nn.functional.interpolate(small, size=large.shape[-3:], mode="nearest")


def _double(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(before, after, 3, padding=1, bias=False),
        nn.BatchNorm3d(after),
        nn.ReLU(),
        nn.Conv3d(after, after, (1, 3, 3), padding=(0, 1, 1), bias=False),
        nn.BatchNorm3d(after),
        nn.ReLU(),
    )
