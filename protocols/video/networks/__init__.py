"""Networks that read clips: settings that need no torch, and the unions that steps take."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from protocols.video.networks.full_size import C3d, I3dLike, R2plus1d
from protocols.video.networks.library_settings import LibraryFrame
from protocols.video.networks.settings import (
    ConvNextFrame,
    DenseFrame,
    GroupedFrame,
    LenetFrame,
    MixerFrame,
    MobileFrame,
    PlainFrame,
    Resnet3d,
    Small3d,
    SmallC3d,
    SmallFrame,
    SmallGru,
    SmallR2plus1d,
    Unet3d,
    VitFrame,
    WideFrame,
)

_OfClips = Small3d | SmallR2plus1d | SmallC3d | SmallGru | Resnet3d | R2plus1d | I3dLike | C3d
_OfFrames = (
    SmallFrame
    | PlainFrame
    | WideFrame
    | GroupedFrame
    | MobileFrame
    | DenseFrame
    | ConvNextFrame
    | VitFrame
    | MixerFrame
    | LenetFrame
    | LibraryFrame
)

ActionNetwork = Annotated[_OfClips, Field(discriminator="type")]
"""What may tell the action: networks of whole clips."""

PrivacyNetwork = Annotated[_OfFrames, Field(discriminator="type")]
"""What may tell the actor while the camera is trained: networks of single frames."""

AttackerNetwork = Annotated[_OfClips | _OfFrames, Field(discriminator="type")]
"""What may attack a finished camera: any of them."""

__all__ = ["ActionNetwork", "AttackerNetwork", "PrivacyNetwork", "Small3d", "SmallFrame", "Unet3d"]
