"""The witness of a capture: measured before its first frame, kept in the step folder, the same after a resume."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from labctl.durable import write_json
from labctl.errors import BadInput
from labctl.exposure import Exposure, FloatArray
from labctl.frames.witness import Witness, load_witness, measure_witness
from labctl.steps import StepContext
from protocols.capture.exposures import WITNESS_IDS
from protocols.keys import first_exposure_id
from protocols.splits import IntArray, spread

if TYPE_CHECKING:
    from protocols.data import ImageSet

WitnessKind = Literal["templates", "twin", "none"]

CALIBRATION_SCENES = 64

WITNESS_FILE, NO_WITNESS_FILE = "witness.npz", "no-witness.json"


def open_witness(
    context: StepContext, kind: WitnessKind, mask: FloatArray, data: ImageSet, rows: IntArray, exposure: Exposure
) -> Witness | None:
    """The witness of this capture: as kept, or measured now; None for `none`, and where the rig cannot have one.

    rows: of the scenes that will be captured. It learns from others where there are enough.
    """
    if kind == "none":
        return None
    path, none_path = context.folder / WITNESS_FILE, context.folder / NO_WITNESS_FILE
    if none_path.exists():
        return None
    if path.exists():
        return load_witness(path)
    scenes = np.asarray(data.images[calibration_rows(len(data), rows)], dtype=np.float32)
    first_id = first_exposure_id(context.content_hash) + WITNESS_IDS
    scene_px = (scenes.shape[-2], scenes.shape[-1])
    try:
        witness = measure_witness(
            context.rig, mask, scene_px, exposure, first_id=first_id, calibration_scenes=scenes,
            progress=lambda done, total: context.progress(done, total, "frames of the witness"),
        )  # fmt: skip
    except BadInput as error:
        context.log(f"no witness proves which scene a frame shows: {error}")
        write_json(none_path, {"why": str(error)})
        return None
    witness.save(path)
    return witness


def calibration_rows(count: int, captured: IntArray) -> IntArray:
    """Up to CALIBRATION_SCENES rows of 0..count-1, spread evenly over those not captured, or all if those are few."""
    others = np.setdiff1d(np.arange(count), captured)
    pool = others if len(others) >= CALIBRATION_SCENES else np.arange(count)
    return pool[spread(len(pool), CALIBRATION_SCENES)]
