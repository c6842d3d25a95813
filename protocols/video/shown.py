"""A few test clips before and after the encoder, and what its read-out does to light, kept for the report."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

from labctl.durable import write_whole
from protocols.splits import Split, spread

if TYPE_CHECKING:
    from protocols.video.encodings import Encodings

SHOWN = "shown.npz"
CLIPS = 4
"""Kept, each of another action where there are so many."""


def keep_shown(seen: Encodings) -> None:
    """Write `shown.npz` into the folder of the step.

    scenes (k, T, H, W) 0..1; `read_soft`, `read_hard`, of the operators that the design has, and `read_captured`
    (k, T', h, w) as read out, from simulated or captured frames; action, actor (k,); `curve_OPERATOR` (2, n) inputs and
    outputs; span () frames of a read frame.
    """
    from protocols.video.encodings import light_shape
    from protocols.video.transfer import transfer_curve

    test, design = seen.of(Split.TEST), seen.camera.design
    kept = one_of_each(test.action.numpy(), CLIPS)
    rows = seen.rows(Split.TEST)[kept]
    arrays: dict[str, Any] = {
        "scenes": np.asarray(seen.data.clips[rows])[:, :, 0].astype(np.float16),
        "action": seen.data.action[rows],
        "actor": seen.data.actor[rows],
        "span": np.array(design.span),
    }
    made = seen.of(Split.TEST, simulated=True)
    order = np.argsort(made.clip_ids, kind="stable")
    there = order[np.searchsorted(made.clip_ids[order], test.clip_ids[kept])]
    for operator in design.operators:
        clips = seen.of(Split.TEST, operator, simulated=True).clips[there]
        arrays[f"read_{operator}"] = clips[:, :, 0].numpy().astype(np.float16)
        curve = transfer_curve(design, operator, light_shape(seen))
        arrays[f"curve_{operator}"] = np.stack([curve.inputs, curve.outputs])
    if seen.stage == "captured":
        arrays["read_captured"] = test.clips[kept][:, :, 0].numpy().astype(np.float16)
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    write_whole(seen.context.folder / SHOWN, content.getvalue())


def one_of_each(labels: Any, wanted: int) -> list[int]:
    """Places of the first clip of each of `wanted` classes, spread over those that are there."""
    classes, first = np.unique(labels, return_index=True)
    return [int(first[place]) for place in spread(len(classes), wanted)]
