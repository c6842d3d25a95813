"""The witness of a capture: measured before its first frame, kept in the step folder, the same after a resume."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import numpy as np

from labctl.durable import write_json
from labctl.errors import BadInput, RunFailed
from labctl.exposure import Exposure, FloatArray
from labctl.frames.witness import BlockWitness, Witness, exposures_of_witness, load_witness, measure_witness
from labctl.frames.witness_measuring import settled_exposures
from labctl.steps import StepContext
from protocols.capture.exposures import LIGHT_IDS, WITNESS_IDS, check_light
from protocols.keys import first_exposure_id
from protocols.splits import IntArray, spread

if TYPE_CHECKING:
    from protocols.data import ImageSet

WitnessKind = Literal["templates", "twin", "none"]

CALIBRATION_SCENES: Mapping[WitnessKind, int] = {"templates": 64, "twin": 128}
"""From which a witness learns how far its predictions are off."""

IDS_OF_A_WITNESS = 2**12
"""More exposures than measuring one takes."""

WITNESS_FILE, NO_WITNESS_FILE = "witness.npz", "no-witness.json"


def open_witness(
    context: StepContext, kind: WitnessKind, mask: FloatArray, data: ImageSet, rows: IntArray, exposure: Exposure
) -> Witness | None:
    """The witness of this capture: as kept, or measured now; None for `none`, and where frames tell no scenes apart.

    rows: of the scenes that will be captured. It learns from others where there are enough. Raises RunFailed when there
    is no light at all: a dead bench is not to be captured to the end.
    """
    if kind == "none":
        return None
    path, none_path = context.folder / WITNESS_FILE, context.folder / NO_WITNESS_FILE
    if none_path.exists():
        return None
    if path.exists():
        return load_witness(path)
    try:
        witness = _measured(context, kind, mask, _calibration_scenes(kind, data, rows), exposure)
    except BadInput as error:
        scene_px = (data.images.shape[-2], data.images.shape[-1])
        first_id = first_exposure_id(context.content_hash) + LIGHT_IDS
        check_light(context.rig, mask, scene_px, exposure, first_id=first_id)
        context.log(f"no witness proves which scene a frame shows: {error}")
        write_json(none_path, {"why": str(error)})
        return None
    witness.save(path)
    return witness


def renew_witness(
    context: StepContext,
    kind: WitnessKind,
    mask: FloatArray,
    data: ImageSet,
    rows: IntArray,
    exposure: Exposure,
    *,
    number: int,
) -> Witness:
    """The witness measured anew and kept in place of the one that was, after recalibration `number` (1, 2, ...).

    Raises RunFailed when the bench gives none any more; then the one that was kept stays.
    """
    try:
        witness = _measured(context, kind, mask, _calibration_scenes(kind, data, rows), exposure, number)
    except BadInput as error:
        raise RunFailed(
            f"after the recalibration no witness can be measured: {error}; put the bench right, then `labctl resume`"
        ) from error
    witness.save(context.folder / WITNESS_FILE)
    return witness


def witness_exposures(kind: WitnessKind, scene_px: tuple[int, int]) -> int:
    """How many exposures a witness takes before the first frame."""
    if kind == "none":
        return 0
    scenes = CALIBRATION_SCENES[kind]
    return settled_exposures(scenes) if kind == "twin" else exposures_of_witness(scene_px, scenes)


def calibration_rows(count: int, captured: IntArray, wanted: int) -> IntArray:
    """Up to `wanted` rows of 0..count-1, spread evenly over those not captured, or over all if those are fewer."""
    others = np.setdiff1d(np.arange(count), captured)
    pool = others if len(others) >= wanted else np.arange(count)
    return pool[spread(len(pool), wanted)]


def _calibration_scenes(kind: WitnessKind, data: ImageSet, rows: IntArray) -> FloatArray:
    chosen = calibration_rows(len(data), rows, CALIBRATION_SCENES[kind])
    return np.asarray(data.images[chosen], dtype=np.float32)


def _measured(
    context: StepContext, kind: WitnessKind, mask: FloatArray, scenes: FloatArray, exposure: Exposure, number: int = 0
) -> BlockWitness:
    first_id = first_exposure_id(context.content_hash) + WITNESS_IDS + number * IDS_OF_A_WITNESS
    scene_px = (scenes.shape[-2], scenes.shape[-1])

    def progress(done: int, total: int) -> None:
        # No place to stop: a part of a witness is worth nothing, and who stops each time would never get past it.
        context.progress(done, total, "exposures of the witness")

    rig = context.rig
    if kind == "templates":
        return measure_witness(
            rig, mask, scene_px, exposure, first_id=first_id, calibration_scenes=scenes, progress=progress
        )
    from protocols.twin_witness import twin_witness

    twin = rig.spec.twin.build(rig.roads)
    return twin_witness(
        rig, twin, mask, scene_px, exposure, first_id=first_id, calibration_scenes=scenes, progress=progress
    )
