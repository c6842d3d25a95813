"""The world of a rig whose drivers are real and whose hardware is a virtual lab."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from annotated_types import Ge, Gt, Le, Lt

from labctl.clock import WallClock
from labctl.errors import BadInput
from labctl.frozen import Frozen
from labctl.roads import Roads
from sim.virtual_lab.lab import LabSettings, VirtualLab

Seconds = Annotated[float, Ge(0), Le(10)]
Count = Annotated[int, Ge(8), Le(256)]

BENCH_TOP_DN = 4095
"""The bench's camera has a 12-bit ADC; the producer makes the other pixel formats from it."""


class VirtualLabSettings(Frozen):
    """A virtual lab that differs from the twin as a set-up built by hand does.

    Each error is drawn from its range by `seed`, in a stream of its own, unless the file fixes it. The streams are
    those of the `as-built` world: the same seed gives both the same errors, where they have the same name.
    """

    nature: ClassVar[str] = "emulated"
    type: Literal["virtual-lab"] = "virtual-lab"
    display: Literal["auto", "xorg", "xvfb"] = "auto"
    """The X server of the lab; auto takes Xorg with the dummy driver, and Xvfb where that does not start."""

    seed: Annotated[int, Ge(0), Lt(2**63)] = 0
    noise: bool = True
    live_scene: Annotated[float, Ge(0), Le(1)] = 0.5
    """Radiance of what stands there when the monitor is blank, at full lamp power."""

    shutter_before: Literal["lamp", "camera"] = "lamp"
    """What the shutter covers. Before the camera it must be open to see anything, the monitor included."""

    sensor_px: tuple[Count, Count] | None = None
    """(rows, columns) of the camera; None adds a border of 8 pixels to the sensor of the twin, as real ones have."""

    mask_latency_s: Seconds = 0.010
    """From the picture in the computer to light through the panel."""

    scene_latency_s: Seconds = 0.010
    mask_response_s: Seconds | None = None
    """None takes that of the twin's panel."""

    scene_response_s: Seconds | None = None
    """None takes that of the twin's monitor."""

    shift_px: tuple[Annotated[float, Ge(-16), Le(16)], Annotated[float, Ge(-16), Le(16)]] | None = None
    """Of the shadow; drawn within a radius of 2 sensor pixels."""

    rotation_deg: Annotated[float, Ge(-20), Le(20)] | None = None
    """Of the panel; drawn from -2..2."""

    gap_error: Annotated[float, Ge(-0.2), Le(0.2)] | None = None
    """Of the distance from mask to sensor, relative; drawn from -0.03..0.03."""

    blur_px: Annotated[float, Ge(0), Le(8)] | None = None
    """Drawn from 0.3..1.0 sensor pixels."""

    panel_gamma: Annotated[float, Ge(0.2), Le(5)] | None = None
    """Drawn from 1.8..2.6."""

    contrast: Annotated[float, Gt(1)] | None = None
    """Of the panel; drawn from 30..300, uniform in the logarithm."""

    crosstalk: Annotated[float, Ge(0), Le(0.8)] | None = None
    """Of neighbouring panel pixels; drawn from 0..0.1."""

    vignetting: Annotated[float, Ge(0), Lt(1)] | None = None
    """At the corner of the twin's sensor; drawn from 0.10..0.40."""

    dark_offset: Annotated[float, Ge(0), Le(0.5)] | None = None
    """Drawn from 0.01..0.03 of full scale."""

    stray: Annotated[float, Ge(0), Le(1)] | None = None
    """Drawn from 0.02..0.08."""

    prnu: Annotated[float, Ge(0), Le(0.2)] = 0.01
    dsnu: Annotated[float, Ge(0), Le(0.2)] = 0.0
    column_offset: Annotated[float, Ge(0), Le(0.2)] = 0.002

    def errors(self) -> dict[str, Any]:
        """The errors of this lab by name, drawn or fixed."""
        drawn: dict[str, Any] = {
            "shift_px": self._in_disc(2.0),
            "rotation_deg": self._between("rotation_deg", -2.0, 2.0),
            "gap_error": self._between("gap_error", -0.03, 0.03),
            "blur_px": self._between("blur_px", 0.3, 1.0),
            "panel_gamma": self._between("panel_gamma", 1.8, 2.6),
            "contrast": math.exp(self._between("contrast", math.log(30), math.log(300))),
            "crosstalk": self._between("crosstalk", 0.0, 0.1),
            "vignetting": self._between("vignetting", 0.10, 0.40),
            "dark_offset": self._between("dark_offset", 0.01, 0.03),
            "stray": self._between("stray", 0.02, 0.08),
        }
        fixed = {name: value for name in drawn if (value := getattr(self, name)) is not None}
        return drawn | fixed | {name: getattr(self, name) for name in ("prnu", "dsnu", "column_offset")}

    def make(self, twin: Any, roads: Roads, state_dir: Path) -> VirtualLabWorld:
        """The lab, running and ready. state_dir: where its logs go. Raises BadInput, HardwareError."""
        settings = lab_settings(self, twin, roads, logs=state_dir / "virtual-lab")
        return VirtualLabWorld(VirtualLab(settings).start(), self.errors(), settings.truth)

    def _stream(self, name: str) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence((self.seed, zlib.crc32(name.encode()))))

    def _between(self, name: str, low: float, high: float) -> float:
        return float(self._stream(name).uniform(low, high))

    def _in_disc(self, radius: float) -> tuple[float, float]:
        stream = self._stream("shift_px")
        r, angle = radius * math.sqrt(stream.uniform()), stream.uniform(0, 2 * math.pi)
        return r * math.cos(angle), r * math.sin(angle)


class VirtualLabWorld:
    """A running lab behind a rig. Devices get `environment`; nothing else tells them that it is virtual."""

    def __init__(self, lab: VirtualLab, drawn: Mapping[str, Any], truth: Mapping[str, Any]) -> None:
        self.lab = lab
        self.clock = WallClock()
        self._drawn, self._truth = drawn, truth

    @property
    def environment(self) -> Mapping[str, str]:
        """Variables for the child processes of drivers."""
        return self.lab.environment

    def truth(self) -> dict[str, Any]:
        """What is true here, as plain JSON values, for the record; nothing that a rig may look at."""
        return {"display": self.lab.display, "drawn": dict(self._drawn), "bench": dict(self._truth)}

    def close(self) -> None:
        """End the lab, unless it was running before. May be called twice."""
        self.lab.stop()


def lab_settings(settings: VirtualLabSettings, twin: Any, roads: Roads, *, logs: Path | None = None) -> LabSettings:
    """The lab that stands for this twin. logs: folder; by default they go with the lab."""
    return LabSettings(
        truth=bench_truth(settings, twin, roads),
        scene_shape=twin.monitor.shape,
        mask_shape=twin.panel.shape,
        display=settings.display,
        instruments_seed=settings.seed,
        logs=logs,
    )


def bench_truth(settings: VirtualLabSettings, twin: Any, roads: Roads) -> dict[str, Any]:
    """The truth of the bench as JSON values: the numbers of the twin, with the errors of the lab in their place.

    Raises BadInput for a twin that the bench cannot stand for.
    """
    optics, panel, monitor, sensor = twin.optics, twin.panel, twin.monitor, twin.sensor
    _check(twin)
    errors = settings.errors()
    rows, columns = settings.sensor_px or (min(256, sensor.shape[0] + 16), min(256, sensor.shape[1] + 16))
    return {
        "seed": settings.seed,
        "noise": settings.noise,
        "optics": {
            "mask_pixel_m": optics.mask_pitch_m / roads.mask.cell_px,
            "gap_m": optics.gap_m,
            "scene_distance_m": optics.scene_distance_m,
            "scene_pixel_m": optics.scene_pitch_m,
            "fall_off": optics.fall_off,
            "shift_px": list(errors["shift_px"]),
            "rotation_deg": errors["rotation_deg"],
            "gap_error": errors["gap_error"],
            "blur_px": errors["blur_px"],
        },
        "panel": {
            "stop_px": list(panel.stop_px or panel.shape),
            "gamma": errors["panel_gamma"],
            "contrast": errors["contrast"],
            "fill_factor": panel.fill_factor,
            "crosstalk": errors["crosstalk"],
            "latency_s": settings.mask_latency_s,
            "response_s": panel.response_s if settings.mask_response_s is None else settings.mask_response_s,
        },
        "monitor": {
            "view_px": list(monitor.view_px or monitor.shape),
            "pixel_px": roads.scene.pixel_px,
            "gamma": monitor.gamma,
            "contrast": monitor.contrast,
            "latency_s": settings.scene_latency_s,
            "response_s": monitor.response_s if settings.scene_response_s is None else settings.scene_response_s,
        },
        "light": {
            "photons_per_s": twin.light.photons_per_s,
            "stray": errors["stray"],
            "live_scene": settings.live_scene,
            "shutter_before": settings.shutter_before,
        },
        "silicon": {
            "shape": [rows, columns],
            "pixel_m": sensor.pitch_m,
            "quantum_efficiency": sensor.quantum_efficiency,
            "full_well_e": sensor.full_well_e,
            "read_noise_e": sensor.read_noise_e,
            "gain_dn_per_e": sensor.gain_dn_per_e * BENCH_TOP_DN / sensor.top_dn,
            "dark_current_e_per_s": sensor.dark_current_e_per_s,
            "dark_offset": errors["dark_offset"],
            "prnu": errors["prnu"],
            "dsnu": errors["dsnu"],
            "column_offset": errors["column_offset"],
            "vignetting": errors["vignetting"],
            "vignetting_px": list(sensor.shape),
        },
    }


def _check(twin: Any) -> None:
    if twin.type != "lensless":
        text = f"twin.type is {twin.type}; the virtual lab has a mask in front of a bare sensor: use lensless"
        raise BadInput(text, at=("rig", "twin", "type"))
    if twin.optics.model != "shadow":
        text = f"optics.model is {twin.optics.model}; the bench of the virtual lab casts shadows: use shadow"
        raise BadInput(text, at=("rig", "twin", "optics", "model"))
    if twin.sensor.colour != "none":
        text = f"sensor.colour is {twin.sensor.colour}; the sensor of the virtual lab is grey: use none"
        raise BadInput(text, at=("rig", "twin", "sensor", "colour"))
    if max(twin.sensor.shape) > 256:
        text = f"sensor.shape is {list(twin.sensor.shape)}; the bench of the virtual lab computes up to 256x256 pixels"
        raise BadInput(text, at=("rig", "twin", "sensor", "shape"))
