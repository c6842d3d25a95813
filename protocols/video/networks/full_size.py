"""Settings of the clip networks of the literature, as wide as published: for a GPU, or narrowed with `width`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from protocols.video.networks.settings import ClipReaderSettings, ClipShape, Dropout, Width

if TYPE_CHECKING:
    from torch import nn


class R2plus1d(ClipReaderSettings):
    """R(2+1)D-18: every 3D convolution as one in space and one in time, 31.5 million weights. [Tran et al. 2018]"""

    type: Literal["r2plus1d-18"] = "r2plus1d-18"
    width: Width = 64

    def _built(self, clip_shape: ClipShape, n_classes: int) -> nn.Module:
        from protocols.video.networks.r2plus1d import R2plus1d18

        return R2plus1d18(clip_shape[1], self.width, n_classes)


class I3dLike(ClipReaderSettings):
    """Inception blocks inflated to 3D, 12.7 million weights. [Carreira and Zisserman 2017; their last pooling is tied
    to clips of 224 px, here it is global]"""

    type: Literal["i3d-like"] = "i3d-like"

    width: Width = 64
    """Channels of the first layer; all others in proportion."""

    dropout: Dropout = 0.5

    def _built(self, clip_shape: ClipShape, n_classes: int) -> nn.Module:
        from protocols.video.networks.i3d import I3d

        return I3d(clip_shape[1], self.width, self.dropout, n_classes)


class C3d(ClipReaderSettings):
    """Eight 3x3x3 convolutions and two hidden layers, 80 million weights. [Tran et al. 2015]"""

    type: Literal["c3d"] = "c3d"

    width: Width = 64
    """Channels of the first layer. Hidden layers have 64 times as many."""

    dropout: Dropout = 0.5

    def _built(self, clip_shape: ClipShape, n_classes: int) -> nn.Module:
        from protocols.video.networks.c3d import c3d

        return c3d(clip_shape[1], self.width, self.dropout, n_classes)
