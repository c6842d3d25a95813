"""Settings of the networks; torch is imported when one is built."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from annotated_types import Ge, Le, Lt
from pydantic import AfterValidator

from labctl.errors import BadInput
from labctl.frozen import Frozen

if TYPE_CHECKING:
    from torch import nn

Width = Annotated[int, Ge(2), Le(512)]
Dropout = Annotated[float, Ge(0), Lt(1)]
ClipShape = tuple[int, int, int, int]

WeightsFile = Annotated[Path, AfterValidator(lambda path: path.expanduser().absolute())]
"""In full, since a run must resume from any folder."""


class ClipReaderSettings(Frozen):
    """A network that names classes. Weights come from torch's global generator: seed that before."""

    reads: ClassVar[Literal["clip", "frame"]] = "clip"
    least_px: ClassVar[int] = 8
    newer: ClassVar[frozenset[str]] = frozenset({"weights"})
    """See `Step.newer`."""

    type: str

    weights: WeightsFile | None = None
    """A state dict of yours to start from, made by `torch.save(network.state_dict(), path)`; relative paths start in
    the current folder. The last layer starts afresh if it tells another number of classes. Nothing is downloaded."""

    def build(self, clip_shape: ClipShape, n_classes: int) -> nn.Module:
        """A network to (n, n_classes) logits: of clips (n, T, C, h, w), or of single frames (n, C, h, w).

        clip_shape: (T, C, h, w). In `eval` mode an answer does not depend on what else is in the batch. Raises BadInput
        for frames that are too small, fewer than two classes, and `weights` that do not fit.
        """
        side = min(clip_shape[2:])
        if side < self.least_px:
            raise BadInput(
                f"{self.type} needs frames of {self.least_px} px or more each way, these have "
                f"{clip_shape[2]}x{clip_shape[3]}; use a larger scene_px or a milder down-sampling"
            )
        if n_classes < 2:
            raise BadInput(f"{self.type} is to tell {n_classes} classes apart; two or more are needed")
        network = self._built(clip_shape, n_classes)
        if self.weights is not None:
            from protocols.video.networks.weights import take_weights

            take_weights(network, self.weights, n_classes, self.type)
        return network

    def fingerprint(self) -> str:
        """What the file of weights holds, as a hash. A step with networks hands it on in `Step.fingerprint`."""
        if self.weights is None:
            return ""
        try:
            return hashlib.sha256(self.weights.read_bytes()).hexdigest()
        except OSError as error:
            raise BadInput(
                f"the weights '{self.weights}' cannot be read: {error.strerror}; give a file of yours, or take "
                "`weights` away: nothing is downloaded"
            ) from error

    def identity(self) -> str:
        """All that decides what is built, as text: the settings, and what the file holds in place of where it lies."""
        return self.model_dump_json(exclude={"weights"}) + self.fingerprint()

    @abstractmethod
    def _built(self, clip_shape: ClipShape, n_classes: int) -> nn.Module: ...


# Of whole clips


class Small3d(ClipReaderSettings):
    """Four 3D convolutions, the first over 3x5x5, global pooling: 238 thousand weights at width 16."""

    type: Literal["small-3d"] = "small-3d"
    width: Width = 16
    dropout: Dropout = 0.2

    def _built(self, clip_shape: ClipShape, n_classes: int) -> nn.Module:
        from protocols.video.networks.of_clips import small_3d

        return small_3d(clip_shape[1], self.width, self.dropout, n_classes)


class SmallR2plus1d(ClipReaderSettings):
    """Residual blocks of a convolution in space and one in time. [Tran et al. 2018, narrower]"""

    type: Literal["small-r2plus1d"] = "small-r2plus1d"
    width: Width = 16
    dropout: Dropout = 0.2

    def _built(self, clip_shape: ClipShape, n_classes: int) -> nn.Module:
        from protocols.video.networks.of_clips import small_r2plus1d

        return small_r2plus1d(clip_shape[1], self.width, self.dropout, n_classes)


class SmallC3d(ClipReaderSettings):
    """3x3x3 convolutions, each followed by max pooling, and a hidden layer. [Tran et al. 2015, narrower]"""

    type: Literal["small-c3d"] = "small-c3d"
    width: Width = 16
    dropout: Dropout = 0.3

    def _built(self, clip_shape: ClipShape, n_classes: int) -> nn.Module:
        from protocols.video.networks.of_clips import small_c3d

        return small_c3d(clip_shape, self.width, self.dropout, n_classes)


class SmallGru(ClipReaderSettings):
    """Features of each frame, read in turn by a gated recurrent unit."""

    type: Literal["small-gru"] = "small-gru"
    width: Width = 24
    dropout: Dropout = 0.2

    def _built(self, clip_shape: ClipShape, n_classes: int) -> nn.Module:
        from protocols.video.networks.of_clips import FramesInTurn

        return FramesInTurn(clip_shape[1], self.width, self.dropout, n_classes)


class Resnet3d(ClipReaderSettings):
    """3D ResNet-18 or -50: for a GPU. [Hara et al. 2018; paper: 50]"""

    type: Literal["resnet-3d"] = "resnet-3d"
    depth: Literal[18, 50] = 50
    width: Width = 64

    def _built(self, clip_shape: ClipShape, n_classes: int) -> nn.Module:
        from protocols.video.networks.resnet3d import ResNet3d

        return ResNet3d(clip_shape[1], self.depth, self.width, n_classes)


# Of single frames


class FrameReaderSettings(ClipReaderSettings):
    """A network that reads frame by frame."""

    reads: ClassVar[Literal["clip", "frame"]] = "frame"

    width: Width = 24

    def _built(self, clip_shape: ClipShape, n_classes: int) -> nn.Module:
        from protocols.video.networks import of_frames

        make: Callable[[int, int, tuple[int, int], int], nn.Module] = of_frames.FAMILIES[self.type]
        return make(clip_shape[1], self.width, (clip_shape[2], clip_shape[3]), n_classes)


class SmallFrame(FrameReaderSettings):
    """A residual network of three blocks: 223 thousand weights at width 24."""

    type: Literal["small-frame"] = "small-frame"


class PlainFrame(FrameReaderSettings):
    """Pairs of 3x3 convolutions with max pooling. [VGG, narrower]"""

    type: Literal["plain-frame"] = "plain-frame"


class WideFrame(FrameReaderSettings):
    """A wide and shallow residual network. [Wide ResNet, narrower]"""

    type: Literal["wide-frame"] = "wide-frame"
    width: Width = 48


class GroupedFrame(FrameReaderSettings):
    """Residual blocks with grouped convolutions. [ResNeXt, narrower]"""

    type: Literal["grouped-frame"] = "grouped-frame"
    width: Width = 32


class MobileFrame(FrameReaderSettings):
    """Inverted residual blocks with convolutions channel by channel. [MobileNet v2, narrower]"""

    type: Literal["mobile-frame"] = "mobile-frame"
    width: Width = 24


class DenseFrame(FrameReaderSettings):
    """Layers that see all layers before them. [DenseNet, narrower]"""

    type: Literal["dense-frame"] = "dense-frame"
    width: Width = 16


class ConvNextFrame(FrameReaderSettings):
    """Wide kernels channel by channel, then mixing of channels. [ConvNeXt, narrower]"""

    type: Literal["convnext-frame"] = "convnext-frame"
    width: Width = 48


class VitFrame(FrameReaderSettings):
    """A transformer over patches. [ViT, narrower]"""

    type: Literal["vit-frame"] = "vit-frame"
    width: Width = 64


class MixerFrame(FrameReaderSettings):
    """Perceptrons over patches and over channels in turn. [MLP-Mixer, narrower]"""

    type: Literal["mixer-frame"] = "mixer-frame"
    width: Width = 64


class LenetFrame(FrameReaderSettings):
    """Two wide kernels with pooling and two hidden layers. [LeNet]"""

    type: Literal["lenet-frame"] = "lenet-frame"
    width: Width = 16


# From clips to clips


class Unet3d(Frozen):
    """A U-Net over space and time that keeps the size: 59 thousand weights at width 8. [Cicek et al. 2016, narrower]"""

    type: Literal["unet-3d"] = "unet-3d"
    width: Width = 8

    def identity(self) -> str:
        """See `ClipReaderSettings.identity`."""
        return self.model_dump_json()

    def build(self, clip_shape: ClipShape) -> nn.Module:
        """A network from clips (n, T, C, h, w) to (n, T, 1, h, w). clip_shape: (T, C, h, w)."""
        from protocols.video.networks.unet3d import UNet3d

        return UNet3d(clip_shape[1], self.width)
