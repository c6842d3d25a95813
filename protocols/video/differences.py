"""How far the read-outs of one camera lie apart: soft, hard, and as the device gave it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from protocols.splits import Split

if TYPE_CHECKING:
    from torch import Tensor

    from protocols.video.encodings import Encodings


def operators_differ(seen: Encodings) -> dict[str, float | None]:
    """Mean absolute differences of encoded test clips, of which values span -1..1; None where there is no second one.

    `soft_hard_differ`: both read-outs of the same frames. `captured_differs`: captured against simulated frames, both
    read out by the operator of the step.
    """
    test = Split.TEST
    soft_hard = captured = None
    if len(seen.camera.design.operators) > 1:
        soft_hard = mean_difference(seen.of(test, "soft").clips, seen.of(test, "hard").clips)
    if seen.stage == "captured":
        captured = _captured(seen)
    return {"soft_hard_differ": soft_hard, "captured_differs": captured}


def mean_difference(a: Tensor, b: Tensor) -> float:
    """Mean over all values of |a - b|."""
    return float((a.double() - b.double()).abs().mean())


def _captured(seen: Encodings) -> float:
    import numpy as np

    taken, made = seen.of(Split.TEST), seen.of(Split.TEST, simulated=True)
    _, here, there = np.intersect1d(taken.clip_ids, made.clip_ids, return_indices=True)
    return mean_difference(taken.clips[here], made.clips[there])
