"""R(2+1)D of 18 layers. [Tran et al. 2018]"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from protocols.video.networks.of_clips import TimeSecond


class R2plus1d18(nn.Module):
    """Stem of 1x7x7 and 3x1x1, four stages of two residual blocks, global pooling. Time is halved by stages 2 to 4."""

    def __init__(self, channels: int, width: int, n_classes: int) -> None:
        super().__init__()
        between = max(1, 45 * width // 64)  # published: 45 for 64
        self.stem = nn.Sequential(
            TimeSecond(),
            nn.Conv3d(channels, between, (1, 7, 7), stride=(1, 2, 2), padding=(0, 3, 3), bias=False),
            nn.BatchNorm3d(between),
            nn.ReLU(),
            nn.Conv3d(between, width, (3, 1, 1), padding=(1, 0, 0), bias=False),
            nn.BatchNorm3d(width),
            nn.ReLU(),
        )
        stages, before = list[nn.Module](), width
        for number in range(4):
            after = width * 2**number
            stages += [_Block(before, after, 1 if number == 0 else 2), _Block(after, after, 1)]
            before = after
        self.stages = nn.Sequential(*stages)
        self.head = nn.Sequential(nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(before, n_classes))

    def forward(self, clips: Tensor) -> Tensor:
        """(n, T, C, h, w) to (n, n_classes) logits."""
        return cast(Tensor, self.head(self.stages(self.stem(clips))))


class _Block(nn.Module):
    """Two factorised convolutions, between which there are as many channels as give them the weights of 3x3x3."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        between = 27 * before * after // (9 * before + 3 * after)
        self.path = nn.Sequential(
            *_factorised(before, between, after, stride),
            nn.ReLU(),
            *_factorised(after, between, after, 1),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or before != after:
            self.shortcut = nn.Sequential(nn.Conv3d(before, after, 1, stride=stride, bias=False), nn.BatchNorm3d(after))

    def forward(self, features: Tensor) -> Tensor:
        return cast(Tensor, (self.path(features) + self.shortcut(features)).relu())


def _factorised(before: int, between: int, after: int, stride: int) -> list[nn.Module]:
    return [
        nn.Conv3d(before, between, (1, 3, 3), stride=(1, stride, stride), padding=(0, 1, 1), bias=False),
        nn.BatchNorm3d(between),
        nn.ReLU(),
        nn.Conv3d(between, after, (3, 1, 1), stride=(stride, 1, 1), padding=(1, 0, 0), bias=False),
        nn.BatchNorm3d(after),
    ]
