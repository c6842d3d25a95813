"""The separable mask of FlatCam as a fixed design. [Asif et al. 2017]"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Le

from labctl.errors import BadInput
from labctl.frames.record import Privacy
from sim.designs.base import CameraDesign, DesignSettings, check_mask_shape
from sim.designs.masks import FixedMask
from sim.optics.separable import maximum_length_sequence, separable_mask


class Mls(DesignSettings):
    """Outer product of one maximum-length sequence with itself, cropped to the mask, +1 open and -1 closed.

    Nothing in it is random: every seed gives the same mask.
    """

    raw_frames: ClassVar[Privacy] = "optical"

    type: Literal["mls"] = "mls"

    order: Annotated[int, Ge(2), Le(16)] | None = None
    """Bits of the sequence, which has 2^order - 1 cells; None takes the fewest that cover the longer side."""

    def build(self, mask_shape: tuple[int, int], seed: int) -> CameraDesign:
        """See `DesignSettings.build`. Raises BadInput when the sequence is shorter than the mask."""
        check_mask_shape(mask_shape)
        needed = max(2, max(mask_shape).bit_length())
        order = needed if self.order is None else self.order
        if order < needed:
            raise BadInput(
                f"a sequence of order {order} has {2**order - 1} cells, the mask {max(mask_shape)} along one side; "
                f"use order {needed} or more"
            )
        code = maximum_length_sequence(order)
        return FixedMask(separable_mask(code[: mask_shape[0]], code[: mask_shape[1]]).numpy())
