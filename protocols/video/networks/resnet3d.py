"""3D ResNet, inflated from the one of pictures. [Hara et al. 2018]"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from protocols.video.networks.of_clips import TimeSecond

LAYERS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}


class ResNet3d(nn.Module):
    """7x7x7 stem that keeps time, max pooling, four stages, global pooling.

    Shortcuts are convolutions where the shape changes ("B"). The authors' last pooling is tied to clips of 16 frames;
    here it takes any.
    """

    def __init__(self, channels: int, depth: int, width: int, n_classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            TimeSecond(),
            nn.Conv3d(channels, width, 7, stride=(1, 2, 2), padding=3, bias=False),
            nn.BatchNorm3d(width),
            nn.ReLU(),
            nn.MaxPool3d(3, stride=2, padding=1),
        )
        stages, before = list[nn.Module](), width
        for number, blocks in enumerate(LAYERS[depth]):
            inner = width * 2**number
            after = inner * (4 if depth == 50 else 1)
            for place in range(blocks):
                stride = 2 if place == 0 and number > 0 else 1
                stages.append(_Block(before, inner, after, stride))
                before = after
        self.stages = nn.Sequential(*stages)
        self.head = nn.Sequential(nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(before, n_classes))

    def forward(self, clips: Tensor) -> Tensor:
        """(n, T, C, h, w) to (n, n_classes) logits."""
        return cast(Tensor, self.head(self.stages(self.stem(clips))))


class _Block(nn.Module):
    """Two 3x3x3 convolutions, or 1, 3 and 1 where `after` is wider than `inner`."""

    def __init__(self, before: int, inner: int, after: int, stride: int) -> None:
        super().__init__()
        sides = (3, 3) if inner == after else (1, 3, 1)
        layers, width = list[nn.Module](), before
        for number, side in enumerate(sides):
            out = after if number == len(sides) - 1 else inner
            first_wide = side == 3 and 3 not in sides[:number]
            step = stride if first_wide else 1
            layers += [
                nn.Conv3d(width, out, side, stride=step, padding=side // 2, bias=False),
                nn.BatchNorm3d(out),
                nn.ReLU(),
            ]
            width = out
        self.path = nn.Sequential(*layers[:-1])
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or before != after:
            self.shortcut = nn.Sequential(nn.Conv3d(before, after, 1, stride=stride, bias=False), nn.BatchNorm3d(after))

    def forward(self, features: Tensor) -> Tensor:
        return cast(Tensor, (self.path(features) + self.shortcut(features)).relu())
