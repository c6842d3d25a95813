"""Settings of frame networks that other packages define: whoever has these installed can train them here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from annotated_types import Ge, Le
from pydantic import model_validator

from labctl.errors import BadInput
from protocols.video.networks.settings import ClipReaderSettings, ClipShape

if TYPE_CHECKING:
    from torch import nn

Library = Literal["timm", "torchvision", "transformers"]

VIT_PATCH_PX = 16


class LibraryFrame(ClipReaderSettings):
    """A network of the literature, full size, as `library` defines it: for a GPU. None of these comes with labctl.

    `weights` are state dicts of that library. Those for colour fit too: their first kernels are summed over red, green
    and blue, which is what grey in all three would give.
    """

    reads: ClassVar[Literal["clip", "frame"]] = "frame"

    type: Literal["resnet2d-18", "resnet2d-50", "resnext2d-50", "mobilenet-v2", "vit-small"]

    library: Library
    """Who defines it; `pip install` it. Weights of one do not fit those of another."""

    input_px: Annotated[int, Ge(16), Le(1024)] | None = None
    """Frames are resized to so many pixels each way first, bilinearly: 224 for most published weights."""

    @model_validator(mode="after")
    def _is_there(self) -> Self:
        if self.library == "transformers" and self.type == "resnext2d-50":
            raise ValueError("transformers has no resnext2d-50; take `library: timm` or `torchvision`")
        return self

    def _built(self, clip_shape: ClipShape, n_classes: int) -> nn.Module:
        from protocols.video.networks.library import LibraryNetwork

        shape = (self.input_px, self.input_px) if self.input_px else clip_shape[2:]
        if self.type == "vit-small" and (shape[0] != shape[1] or shape[0] % VIT_PATCH_PX):
            raise BadInput(
                f"vit-small takes square frames of whole patches of {VIT_PATCH_PX} px, these have "
                f"{shape[0]}x{shape[1]}; set its input_px to a multiple of {VIT_PATCH_PX}"
            )
        return LibraryNetwork(self.type, self.library, clip_shape[1], shape, n_classes)
