"""The pictures of a protocol on its scene grid, as a running step takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labctl.steps import StepContext
from protocols.splits import some_of

if TYPE_CHECKING:
    from protocols.data import ImageSet


def load_scenes(context: StepContext) -> ImageSet:
    """All pictures at `scene_px`. Says how many were left out because they cannot be read, and which."""
    protocol = context.setting.protocol
    data: ImageSet = protocol.data.load(protocol.grids()[0])
    skipped, found = len(data.skipped), len(data.skipped) + len(data)
    if skipped:
        context.log(f"skipped {skipped} of {found} pictures that cannot be read: {some_of(data.skipped)}")
    return data
