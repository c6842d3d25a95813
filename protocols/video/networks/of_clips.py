"""Small networks of whole clips (n, T, C, h, w): they train on a CPU."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn


class TimeSecond(nn.Module):
    """(n, T, C, h, w) to (n, C, T, h, w), as 3D convolutions take it."""

    def forward(self, clips: Tensor) -> Tensor:
        """The same clips."""
        return clips.transpose(1, 2)


def small_3d(channels: int, width: int, dropout: float, n_classes: int) -> nn.Module:
    """See `Small3d`."""
    w = width
    return nn.Sequential(
        TimeSecond(),
        *_layer(channels, w, (3, 5, 5), (1, 2, 2)),
        *_layer(w, 2 * w, (3, 3, 3), (2, 2, 2)),
        *_layer(2 * w, 4 * w, (3, 3, 3), (2, 2, 2)),
        *_layer(4 * w, 6 * w, (3, 3, 3), (2, 2, 2)),
        *_head(6 * w, dropout, n_classes),
    )


def small_r2plus1d(channels: int, width: int, dropout: float, n_classes: int) -> nn.Module:
    """See `SmallR2plus1d`."""
    w = width
    return nn.Sequential(
        TimeSecond(),
        *_factorised(channels, w, (1, 2, 2), side=5),
        SpaceThenTime(w, 2 * w),
        SpaceThenTime(2 * w, 4 * w),
        SpaceThenTime(4 * w, 6 * w),
        *_head(6 * w, dropout, n_classes),
    )


def small_c3d(clip_shape: tuple[int, int, int, int], width: int, dropout: float, n_classes: int) -> nn.Module:
    """See `SmallC3d`. Of time, only what is there is halved."""
    w, frames = width, clip_shape[0]
    layers: list[nn.Module] = [TimeSecond()]
    before = clip_shape[1]
    for number, after in enumerate((w, 2 * w, 4 * w)):
        in_time = 1 if number == 0 or frames < 2 else 2
        frames //= in_time
        layers += [*_layer(before, after, (3, 3, 3), (1, 1, 1)), nn.MaxPool3d((in_time, 2, 2))]
        before = after
    hidden = nn.Sequential(nn.AdaptiveAvgPool3d((1, 2, 2)), nn.Flatten(), nn.Linear(16 * w, 8 * w), nn.ReLU())
    return nn.Sequential(*layers, hidden, nn.Dropout(dropout), nn.Linear(8 * w, n_classes))


class SpaceThenTime(nn.Module):
    """A residual block: 1x3x3, then 3x1x1, halving both; the shortcut is a 1x1x1 convolution."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.path = nn.Sequential(
            *_factorised(before, after, (2, 2, 2)), *_factorised(after, after, (1, 1, 1), last=False)
        )
        self.shortcut = nn.Sequential(nn.Conv3d(before, after, 1, stride=2, bias=False), nn.BatchNorm3d(after))

    def forward(self, features: Tensor) -> Tensor:
        """(n, before, T, h, w) to half of each side."""
        return cast(Tensor, (self.path(features) + self.shortcut(features)).relu())


class FramesInTurn(nn.Module):
    """See `SmallGru`."""

    def __init__(self, channels: int, width: int, dropout: float, n_classes: int) -> None:
        super().__init__()
        w = width
        self.features = nn.Sequential(
            nn.Conv2d(channels, w, 5, stride=2, padding=2, bias=False),
            nn.BatchNorm2d(w),
            nn.ReLU(),
            nn.Conv2d(w, 2 * w, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(2 * w),
            nn.ReLU(),
            nn.Conv2d(2 * w, 3 * w, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(3 * w),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
        )
        self.memory = nn.GRU(12 * w, 4 * w, batch_first=True)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(4 * w, n_classes))

    def forward(self, clips: Tensor) -> Tensor:
        """(n, T, C, h, w) to (n, n_classes) logits."""
        seen = self.features(clips.flatten(0, 1)).unflatten(0, clips.shape[:2])
        remembered, _ = self.memory(seen)
        return cast(Tensor, self.head(remembered.mean(1)))


def _layer(before: int, after: int, sides: tuple[int, int, int], stride: tuple[int, int, int]) -> list[nn.Module]:
    padding = (sides[0] // 2, sides[1] // 2, sides[2] // 2)
    return [
        nn.Conv3d(before, after, sides, stride=stride, padding=padding, bias=False),
        nn.BatchNorm3d(after),
        nn.ReLU(),
    ]


def _factorised(
    before: int, after: int, stride: tuple[int, int, int], *, side: int = 3, last: bool = True
) -> list[nn.Module]:
    in_space = _layer(before, after, (1, side, side), (1, stride[1], stride[2]))
    in_time = _layer(after, after, (3, 1, 1), (stride[0], 1, 1))
    return [*in_space, *(in_time if last else in_time[:-1])]


def _head(features: int, dropout: float, n_classes: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(features, n_classes)]
