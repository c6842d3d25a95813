"""The pictures of a protocol on its scene grid, as a running step takes them."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from labctl.steps import StepContext
from protocols.splits import some_of

if TYPE_CHECKING:
    from labctl.protocol import Protocol
    from protocols.data import ImageSet, ImageSource


def scenes_of(protocol: Protocol) -> ImageSet:
    """All pictures of a protocol at `scene_px`, read once per process while their fingerprint stays the same."""
    return _loaded(protocol.data, protocol.grids()[0], protocol.data.fingerprint())


@lru_cache(maxsize=1)
def _loaded(source: ImageSource, scene_px: tuple[int, int], fingerprint: str) -> ImageSet:
    return source.load(scene_px)


def load_scenes(context: StepContext) -> ImageSet:
    """All pictures at `scene_px`. Says how many were left out because they cannot be read, and which."""
    data = scenes_of(context.setting.protocol)
    skipped, found = len(data.skipped), len(data.skipped) + len(data)
    if skipped:
        context.log(f"skipped {skipped} of {found} pictures that cannot be read: {some_of(data.skipped)}")
    return data
