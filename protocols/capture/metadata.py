"""What is known of a captured frame and of its set: said by the camera, by the bench, and by the step."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from annotated_types import MaxLen

from labctl.config import content_hash
from labctl.errors import HardwareError
from labctl.exposure import FloatArray, Frames
from labctl.frames.header import SetHeader
from labctl.frames.record import FrameRecord, Privacy, Retry
from labctl.steps import StepContext
from labctl.timing import load_timing

if TYPE_CHECKING:
    from labctl.rig import Rig

log = logging.getLogger(__name__)

READINGS_EVERY_S = 1.0

About = dict[str, Annotated[str, MaxLen(10_000)]]


PINHOLE_CELLS = 4
"""Open cells up to which a mask counts as a pinhole."""


class FrameNotes:
    """Makes the record of each frame of one step, from the frame, the instruments and the rig as they are now."""

    def __init__(
        self,
        context: StepContext,
        mask: FloatArray,
        *,
        black_dn: float,
        readings_every_s: float = READINGS_EVERY_S,
    ) -> None:
        rig = context.rig
        self._rig = rig
        self._readings = InstrumentReadings(rig, readings_every_s)
        self._retakes_seen = len(rig.retakes)
        self._retakes: dict[int, list[Retry]] = {}
        self._constant: dict[str, Any] = {
            "design": context.setting.design,
            "privacy": design_privacy(context, mask),
            "black_level_dn": black_dn,
            "calibrations": calibration_ids(rig),
            "rig_hash": rig.spec.content_hash,
            "run_id": context.run_folder.name,
        }

    def record(self, frame: Frames, *, retries: Sequence[Retry] = (), **known: Any) -> FrameRecord:
        """Of one frame. known: what the step alone can say, such as the sample. retries: of the step itself."""
        exposure_id = int(frame.exposure_ids[0])
        return FrameRecord(
            exposure_s=float(frame.exposure_s[0]),
            gain_db=float(frame.gain_db[0]),
            saturation_dn=frame.saturation_dn,
            saturated_fraction=float(frame.saturated_fraction[0]),
            camera_time_s=float(frame.camera_time_s[0]),
            host_time_s=float(frame.host_time_s[0]),
            unix_time_s=time.time(),
            frame_id=int(frame.frame_ids[0]),
            exposure_id=exposure_id,
            attempt=frame.attempt,
            retries=tuple(sorted([*self._of_light_path(exposure_id), *retries], key=lambda retry: retry.attempt)),
            instruments=self._readings.now(),
            **{**self._constant, **known},
        )

    def _of_light_path(self, exposure_id: int) -> list[Retry]:
        """The rig notes what it took twice by exposure, and may be some frames ahead of those that were delivered."""
        retakes = self._rig.retakes
        for retake in retakes[self._retakes_seen :]:
            retry = Retry(attempt=retake.attempt, reason=retake.reason)
            self._retakes.setdefault(retake.exposure_id, []).append(retry)
        self._retakes_seen = len(retakes)
        return self._retakes.pop(exposure_id, [])


class InstrumentReadings:
    """All quantities of all instruments, read once per `every_s` at most: a slow bus must not slow the capture."""

    def __init__(self, rig: Rig, every_s: float) -> None:
        self._instruments = rig.devices().instruments
        self._every_s = every_s
        self._read_s: float | None = None
        self._last: dict[str, float | None] = {}
        self._failed: set[str] = set()

    def now(self) -> dict[str, float | None]:
        """Values by `instrument.quantity`; None where one cannot be read, which is said once."""
        if self._read_s is None or time.monotonic() - self._read_s >= self._every_s:
            self._last = {
                f"{name}.{quantity}": self._value(name, quantity)
                for name, device in self._instruments.items()
                for quantity in device.quantities
            }
            self._read_s = time.monotonic()
        return self._last

    def _value(self, name: str, quantity: str) -> float | None:
        try:
            value = float(self._instruments[name].read_quantity(quantity))
        except HardwareError as error:
            if f"{name}.{quantity}" not in self._failed:
                self._failed.add(f"{name}.{quantity}")
                log.warning("%s.%s cannot be read, frames are captured without it: %s", name, quantity, error)
            return None
        return value if np.isfinite(value) else None


def set_header(
    context: StepContext,
    mask: FloatArray,
    frame_shape: tuple[int, int, int],
    planned: int,
    about: Mapping[str, str],
    **more: Any,
) -> SetHeader:
    """The header of the set that this step captures; the step's content hash names it."""
    setting, rig = context.setting, context.setting.rig
    data = setting.protocol.data
    return SetHeader.new(
        context.content_hash,
        frame_shape,
        planned=planned,
        title=" ".join([setting.protocol.name, setting.name, *([setting.design] if setting.design else [])]),
        run_id=context.run_folder.name,
        rig_name=rig.name,
        rig_hash=rig.content_hash,
        nature=rig.nature,
        design=setting.design,
        privacy=design_privacy(context, mask),
        data_id=None if data is None else data.fingerprint(),
        units=_units(rig),
        about=dict(about),
        **more,
    )


def design_privacy(context: StepContext, mask: FloatArray) -> Privacy:
    """Where the design of this step protects; `unknown` when it does not say, or there is none.

    Whatever it says, a mask that lets through no more than `PINHOLE_CELLS` cells takes pictures.
    """
    if context.setting.design is None:
        return "unknown"
    said: Privacy = getattr(context.setting.design_settings(), "raw_frames", "unknown")
    return "none" if said == "optical" and mask.sum() <= PINHOLE_CELLS else said


def mask_facts(mask: FloatArray, rig: Rig) -> dict[str, str]:
    """Hashes of a mask (H, W) and of the levels that it becomes on the SLM, as `FrameRecord` names them."""
    levels = rig.roads.mask.levels(mask)
    return {"mask_hash": content_hash(mask.tolist()), "levels_hash": hashlib.sha256(levels.tobytes()).hexdigest()}


def calibration_ids(rig: Rig) -> dict[str, str]:
    """What calibrations the rig stands on, by what they calibrate: settling times and look-up tables."""
    found: dict[str, str] = {}
    for name, settle in rig.describe()["settle"].items():
        timing = load_timing(rig.spec.name) if settle["from"] == "measured" else None
        when = "" if timing is None else f" {timing.measured}"
        found[f"settle.{name}"] = f"{settle['from']}{when}: {settle['settle_s']:g} s"
    if rig.roads.mask.lut is not None:
        found["lut.mask"] = content_hash(list(rig.roads.mask.lut))
    return found


def set_instruments(wanted: Mapping[str, Mapping[str, float]], rig: Rig) -> None:
    """Set quantities with read-back. Raises InterlockError outside their limits."""
    instruments = rig.devices().instruments
    for name, quantities in wanted.items():
        for quantity, value in quantities.items():
            instruments[name].set_quantity(quantity, value)


def _units(rig: Any) -> dict[str, str]:
    """As the rig file declares them; a device that tells only when it is open is left out."""
    return {
        f"{name}.{quantity}": declared.unit
        for name, device in rig.devices.items()
        for quantity, declared in device.declared_quantities().items()
    }
