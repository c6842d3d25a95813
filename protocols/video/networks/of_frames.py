"""Small networks of single frames (n, C, h, w), of ten families: they train on a CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from protocols.models import ResidualBlock

PATCHES = 8
"""Patches along one side, for networks of patches."""

Shape = tuple[int, int]


def small(channels: int, width: int, shape: Shape, n_classes: int) -> nn.Module:
    """See `SmallFrame`."""
    w = width
    blocks = (ResidualBlock(w, w * 4 // 3), ResidualBlock(w * 4 // 3, w * 8 // 3), ResidualBlock(w * 8 // 3, 4 * w))
    return nn.Sequential(*_conv(channels, w, 3), *blocks, *_head(4 * w, n_classes))


def plain(channels: int, width: int, shape: Shape, n_classes: int) -> nn.Module:
    """See `PlainFrame`."""
    w, layers, before = width, list[nn.Module](), channels
    for after in (w, 2 * w, 4 * w):
        layers += [*_conv(before, after, 3), *_conv(after, after, 3), nn.MaxPool2d(2, ceil_mode=True)]
        before = after
    return nn.Sequential(*layers, *_head(4 * w, n_classes))


def wide(channels: int, width: int, shape: Shape, n_classes: int) -> nn.Module:
    """See `WideFrame`."""
    w = width
    return nn.Sequential(
        *_conv(channels, w, 5, stride=2),
        ResidualBlock(w, 2 * w),
        ResidualBlock(2 * w, 2 * w, 1),
        *_head(2 * w, n_classes),
    )


def grouped(channels: int, width: int, shape: Shape, n_classes: int) -> nn.Module:
    """See `GroupedFrame`."""
    w = width
    blocks = (_Bottleneck(w, 2 * w, groups=8), _Bottleneck(2 * w, 4 * w, groups=8), _Bottleneck(4 * w, 4 * w, groups=8))
    return nn.Sequential(*_conv(channels, w, 3, stride=2), *blocks, *_head(4 * w, n_classes))


def mobile(channels: int, width: int, shape: Shape, n_classes: int) -> nn.Module:
    """See `MobileFrame`."""
    w = width
    blocks = (_Inverted(w, w, 1), _Inverted(w, 2 * w, 2), _Inverted(2 * w, 2 * w, 1), _Inverted(2 * w, 4 * w, 2))
    return nn.Sequential(*_conv(channels, w, 3, stride=2), *blocks, *_conv(4 * w, 8 * w, 1), *_head(8 * w, n_classes))


def dense(channels: int, width: int, shape: Shape, n_classes: int) -> nn.Module:
    """See `DenseFrame`."""
    layers, features = list[nn.Module](_conv(channels, 2 * width, 3, stride=2)), 2 * width
    for block in range(3):
        for _ in range(4):
            layers.append(_Dense(features, width))
            features += width
        if block < 2:
            layers += [*_conv(features, features // 2, 1), nn.AvgPool2d(2, ceil_mode=True)]
            features //= 2
    return nn.Sequential(*layers, *_head(features, n_classes))


def convnext(channels: int, width: int, shape: Shape, n_classes: int) -> nn.Module:
    """See `ConvNextFrame`."""
    w = width
    return nn.Sequential(
        nn.Conv2d(channels, w, 4, stride=2, padding=1),
        _Next(w),
        _Next(w),
        nn.Conv2d(w, 2 * w, 2, stride=2),
        _Next(2 * w),
        _Next(2 * w),
        *_head(2 * w, n_classes),
    )


def vit(channels: int, width: int, shape: Shape, n_classes: int) -> nn.Module:
    """See `VitFrame`."""
    return PatchTransformer(channels, width, shape, n_classes)


def mixer(channels: int, width: int, shape: Shape, n_classes: int) -> nn.Module:
    """See `MixerFrame`."""
    patches = Patches(channels, width, shape)
    blocks = [_Mixing(patches.count, width) for _ in range(4)]
    return nn.Sequential(patches, *blocks, nn.LayerNorm(width), _MeanOfPatches(), nn.Linear(width, n_classes))


def lenet(channels: int, width: int, shape: Shape, n_classes: int) -> nn.Module:
    """See `LenetFrame`."""
    w = width
    return nn.Sequential(
        *_conv(channels, w, 5),
        nn.MaxPool2d(2, ceil_mode=True),
        *_conv(w, 2 * w, 5),
        nn.AdaptiveMaxPool2d(6),
        nn.Flatten(),
        nn.Linear(72 * w, 96),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Linear(96, 64),
        nn.ReLU(),
        nn.Linear(64, n_classes),
    )


FAMILIES: dict[str, Callable[[int, int, Shape, int], nn.Module]] = {
    "small-frame": small,
    "plain-frame": plain,
    "wide-frame": wide,
    "grouped-frame": grouped,
    "mobile-frame": mobile,
    "dense-frame": dense,
    "convnext-frame": convnext,
    "vit-frame": vit,
    "mixer-frame": mixer,
    "lenet-frame": lenet,
}
"""By `type` of the settings: from channels, width, (h, w) and classes to a network."""


class Patches(nn.Module):
    """Frames (n, C, h, w) as PATCHES by PATCHES patches (n, count, width), each with a learned place."""

    def __init__(self, channels: int, width: int, shape: Shape) -> None:
        super().__init__()
        sides = [max(1, -(-side // PATCHES)) for side in shape]
        self.cut = nn.Conv2d(channels, width, (sides[0], sides[1]), stride=(sides[0], sides[1]))
        self.count = (shape[0] // sides[0]) * (shape[1] // sides[1])
        self.place = nn.Parameter(0.02 * torch.randn(1, self.count, width))

    def forward(self, frames: Tensor) -> Tensor:
        """(n, count, width)."""
        return cast(Tensor, self.cut(frames).flatten(2).transpose(1, 2) + self.place)


class PatchTransformer(nn.Module):
    """Four layers of attention over patches, their mean, one linear layer."""

    def __init__(self, channels: int, width: int, shape: Shape, n_classes: int) -> None:
        super().__init__()
        self.patches = Patches(channels, width, shape)
        heads = next(heads for heads in (4, 2, 1) if width % heads == 0)
        layers = [
            nn.TransformerEncoderLayer(width, heads, 2 * width, 0.1, batch_first=True, norm_first=True)
            for _ in range(4)
        ]
        self.layers = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.LayerNorm(width), _MeanOfPatches(), nn.Linear(width, n_classes))

    def forward(self, frames: Tensor) -> Tensor:
        """(n, C, h, w) to (n, n_classes) logits."""
        return cast(Tensor, self.head(self.layers(self.patches(frames))))


class _MeanOfPatches(nn.Module):
    def forward(self, patches: Tensor) -> Tensor:
        return patches.mean(1)


class _Mixing(nn.Module):
    def __init__(self, patches: int, width: int) -> None:
        super().__init__()
        self.before, self.then = nn.LayerNorm(width), nn.LayerNorm(width)
        self.over_patches = nn.Sequential(nn.Linear(patches, patches), nn.GELU(), nn.Linear(patches, patches))
        self.over_channels = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, patches: Tensor) -> Tensor:
        patches = patches + self.over_patches(self.before(patches).transpose(1, 2)).transpose(1, 2)
        return cast(Tensor, patches + self.over_channels(self.then(patches)))


class _Bottleneck(nn.Module):
    def __init__(self, before: int, after: int, *, groups: int) -> None:
        super().__init__()
        inner = after // 2
        groups = next(number for number in (groups, 4, 2, 1) if inner % number == 0)
        self.path = nn.Sequential(
            *_conv(before, inner, 1),
            nn.Conv2d(inner, inner, 3, stride=2, padding=1, groups=groups, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU(),
            *_conv(inner, after, 1)[:-1],
        )
        self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride=2, bias=False), nn.BatchNorm2d(after))

    def forward(self, features: Tensor) -> Tensor:
        return cast(Tensor, (self.path(features) + self.shortcut(features)).relu())


class _Inverted(nn.Module):
    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        inner = 3 * before
        self.kept = stride == 1 and before == after
        self.path = nn.Sequential(
            *_conv(before, inner, 1),
            nn.Conv2d(inner, inner, 3, stride=stride, padding=1, groups=inner, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU(),
            *_conv(inner, after, 1)[:-1],
        )

    def forward(self, features: Tensor) -> Tensor:
        found: Tensor = self.path(features)
        return features + found if self.kept else found


class _Dense(nn.Module):
    def __init__(self, before: int, grown: int) -> None:
        super().__init__()
        self.path = nn.Sequential(*_conv(before, grown, 3))

    def forward(self, features: Tensor) -> Tensor:
        return torch.cat([features, self.path(features)], dim=1)


class _Next(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.path = nn.Sequential(
            nn.Conv2d(width, width, 7, padding=3, groups=width),
            nn.GroupNorm(1, width),
            nn.Conv2d(width, 3 * width, 1),
            nn.GELU(),
            nn.Conv2d(3 * width, width, 1),
        )

    def forward(self, features: Tensor) -> Tensor:
        return cast(Tensor, features + self.path(features))


def _conv(before: int, after: int, side: int, *, stride: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(before, after, side, stride=stride, padding=side // 2, bias=False)
    return [convolution, nn.BatchNorm2d(after), nn.ReLU()]


def _head(features: int, n_classes: int, dropout: float = 0.2) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(features, n_classes)]
