"""The truth that simulated devices stand in: one twin with true values, a clock, a live scene, and noise by key."""

from __future__ import annotations

import contextlib
import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
from annotated_types import Ge, Gt, Le, Lt
from torch import Tensor

from labctl.devices import Levels
from labctl.exposure import Exposure, FrameTag
from labctl.frozen import Frozen
from labctl.roads import Roads
from sim.monitor import centred_view, monitor_radiance, scene_pixels
from sim.noise import KeyedDraws
from sim.panel import ghost_weight
from sim.twin import TwinSettings

Seed = Annotated[int, Ge(0), Lt(2**63)]
Radiance = Annotated[float, Ge(0), Le(1)]


@dataclass(frozen=True)
class Shown:
    """What a display stands at when an exposure starts.

    levels: (rows, columns) uint8 that it goes to. before: (rows, columns) float levels that it came from, or None
    when it has settled. since_s: time since the change.
    """

    levels: Levels
    before: npt.NDArray[np.float64] | None = None
    since_s: float = math.inf


@dataclass(frozen=True)
class Shot:
    """One exposure as it started: everything that decides its pixels. scene is None for the live scene."""

    mask: Shown
    scene: Shown | None
    live_radiance: float
    exposure: Exposure
    tag: FrameTag
    start_s: float


class Showing(Protocol):
    """A simulated display, as the world sees it."""

    def shown(self) -> Shown | None:
        """Its state now; None when it is blank."""


class VirtualClock:
    """Time that passes only when somebody sleeps. See `labctl.clock.Clock`."""

    def __init__(self) -> None:
        self._now_s = 0.0

    def now(self) -> float:
        """Seconds since the world began."""
        return self._now_s

    def sleep(self, seconds: float) -> None:
        """Let `seconds` pass at once."""
        self._now_s += max(0.0, seconds)


class World:
    """Panel, monitor, mask, light and sensor as they truly are. Both light paths get their pixels from `expose`.

    A monitor that is absent or blank counts as taken away: then the live scene stands in front of the camera, uniform,
    `live_scene` bright, times the summed power of the lamps when there are any.
    values: true values of the twin that its settings do not hold, see `sim.twin.Twin`.
    """

    def __init__(
        self,
        twin: TwinSettings,
        roads: Roads,
        *,
        seed: int,
        noise: bool,
        live_scene: float,
        state_dir: Path,
        drawn: dict[str, Any] | None = None,
        values: dict[str, Tensor] | None = None,
    ) -> None:
        self.settings, self.roads = twin, roads
        self.seed, self.noise, self.live_scene = seed, noise, live_scene
        self.state_dir = state_dir
        self.clock = VirtualClock()
        self.lamps: dict[str, float] = {}
        self.panel: Showing | None = None
        self.monitor: Showing | None = None
        self._drawn = drawn or {}
        self._twin = twin.build(roads, dtype=torch.float64, values=values)
        self._last_mask: Levels | None = None
        self._last_psf: Tensor | None = None

    def truth(self) -> dict[str, Any]:
        """What is true here, as plain JSON values, for the record; nothing that a rig may look at."""
        return {
            "seed": self.seed,
            "noise": self.noise,
            "live_scene": self.live_scene,
            "drawn": dict(self._drawn),
            "twin": self.settings.model_dump(mode="json"),
        }

    def start(self, exposure: Exposure, tag: FrameTag) -> Shot:
        """An exposure that starts now, with the displays and lamps as they stand. A panel never shown is at level 0."""
        mask = self.panel.shown() if self.panel else None
        lamp_power = sum(self.lamps.values()) if self.lamps else 1.0
        return Shot(
            mask=mask or Shown(np.zeros(self.settings.panel.shape, dtype=np.uint8)),
            scene=self.monitor.shown() if self.monitor else None,
            live_radiance=self.live_scene * lamp_power,
            exposure=exposure,
            tag=tag,
            start_s=self.clock.now(),
        )

    def expose(self, shots: Sequence[Shot]) -> npt.NDArray[np.uint16]:
        """Pixels (N, 1, h, w) in DN of these exposures; (h, w) is the region of the first, else the whole sensor.

        Frame by frame in float64, so that a batch equals its exposures one by one, bit for bit.
        """
        with torch.no_grad(), _one_thread():
            return np.concatenate([self._frame(shot) for shot in shots])

    def _frame(self, shot: Shot) -> npt.NDArray[np.uint16]:
        exposure = shot.exposure
        photons = self._twin.irradiance(
            self._radiance(shot), self._psf(shot), roi=exposure.roi or self.settings.sensor.shape
        )
        frame = self._twin.sensor.expose(
            photons,
            exposure_s=exposure.exposure_s,
            gain_db=exposure.gain_db,
            draws=KeyedDraws(self.seed, [shot.tag]) if self.noise else None,
        )
        return frame.numpy().astype(np.uint16)

    def _psf(self, shot: Shot) -> Tensor:
        panel = self.settings.panel
        levels = _mean_levels(shot.mask, shot.exposure.exposure_s, panel.response_s)
        if self._last_psf is None or self._last_mask is None or not np.array_equal(levels, self._last_mask):
            picture = centred_view(torch.from_numpy(levels), panel.stop_px or panel.shape)
            self._last_mask, self._last_psf = levels.copy(), self._twin.psf_from_levels(picture)
        return self._last_psf

    def _radiance(self, shot: Shot) -> Tensor:
        monitor, pixel_px = self.settings.monitor, self.roads.scene.pixel_px
        view = monitor.view_px or monitor.shape
        if shot.scene is None:
            return torch.full((1, 1, view[0] // pixel_px, view[1] // pixel_px), shot.live_radiance, dtype=torch.float64)
        levels = _mean_levels(shot.scene, shot.exposure.exposure_s, monitor.response_s)
        picture = centred_view(torch.from_numpy(levels), view).to(torch.float64)
        radiance = monitor_radiance(picture, gamma=monitor.gamma, contrast=monitor.contrast)
        return scene_pixels(radiance[None, None], pixel_px)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Single frames are too small to share out: on a busy computer, threads waiting for each other cost 20-fold."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _mean_levels(shown: Shown, exposure_s: float, response_s: float) -> npt.NDArray[Any]:
    """Levels (rows, columns) as the exposure sees them: new + w (before - new)."""
    weight = ghost_weight(shown.since_s, exposure_s, response_s) if shown.before is not None else 0.0
    if weight == 0.0 or shown.before is None:
        return shown.levels
    return shown.levels + weight * (shown.before - shown.levels)


Drawn = Literal["drawn"]
"""Instead of a number: drawn from its range by the seed of the world."""


class NominalWorldSettings(Frozen):
    """A world that is exactly as the twin believes, but for noise."""

    type: Literal["nominal"] = "nominal"
    seed: Seed = 0
    noise: bool = True
    live_scene: Radiance = 0.5
    """Radiance of the live scene, 0..1."""

    def make(self, twin: TwinSettings, roads: Roads, state_dir: Path) -> World:
        """The world. state_dir: where lamps keep their state."""
        return World(twin, roads, seed=self.seed, noise=self.noise, live_scene=self.live_scene, state_dir=state_dir)


IN_SETTINGS = {
    "read_noise_e": ("sensor", "read_noise_e"),
    "crosstalk": ("panel", "crosstalk"),
    "panel_response_s": ("panel", "response_s"),
    "monitor_gamma": ("monitor", "gamma"),
}
"""Errors that take the place of a value in the settings of the twin: its section and its name there."""


class AsBuiltWorldSettings(Frozen):
    """A world that differs from the twin as a set-up built by hand does.

    Each error is drawn from its range by `seed`, in a stream of its own, unless the file fixes it. From `gain_error`
    on, what the file does not name is as the twin says; the word `drawn` draws it, too.
    """

    newer: ClassVar[frozenset[str]] = frozenset(
        {"gain_error", "read_noise_e", "crosstalk", "panel_response_s", "monitor_gamma", "tilt_deg", "gap_error"}
    )
    """See `Step.newer`."""

    type: Literal["as-built"] = "as-built"
    seed: Seed = 0
    noise: bool = True
    live_scene: Radiance = 0.5

    shift_px: tuple[Annotated[float, Ge(-16), Le(16)], Annotated[float, Ge(-16), Le(16)]] | None = None
    """Drawn within a radius of 2 sensor pixels."""

    rotation_deg: Annotated[float, Ge(-20), Le(20)] | None = None
    """Drawn from -2..2."""

    scale: Annotated[float, Ge(0.8), Le(1.25)] | None = None
    """Drawn from 0.97..1.03."""

    blur_px: Annotated[float, Ge(0), Le(8)] | None = None
    """Drawn from 0.3..1.0 sensor pixels."""

    panel_gamma: Annotated[float, Ge(0.2), Le(5)] | None = None
    """Drawn from 1.8..2.6."""

    contrast: Annotated[float, Gt(1)] | None = None
    """Of the panel; drawn from 30..300, uniform in the logarithm."""

    vignetting: Annotated[float, Ge(0), Lt(1)] | None = None
    """Drawn from 0.10..0.40."""

    dark_offset: Annotated[float, Ge(0), Le(0.5)] | None = None
    """Drawn from 0.01..0.03 of full scale."""

    stray: Annotated[float, Ge(0), Le(1)] | None = None
    """Drawn from 0.02..0.08."""

    prnu: Annotated[float, Ge(0), Le(0.2)] = 0.01
    column_offset: Annotated[float, Ge(0), Le(0.2)] = 0.002

    gain_error: Annotated[float, Gt(-0.5), Le(1)] | Drawn | None = None
    """Relative, of the conversion gain; `drawn` from -0.1..0.1. The full well is large enough to reach the top of the
    ADC."""

    read_noise_e: Annotated[float, Ge(0), Le(1e4)] | Drawn | None = None
    """`drawn` from 2..6 electrons."""

    crosstalk: Annotated[float, Ge(0), Le(0.8)] | Drawn | None = None
    """Of neighbouring panel pixels; `drawn` from 0..0.1."""

    panel_response_s: Annotated[float, Ge(0), Le(10)] | Drawn | None = None
    """`drawn` from 1..5 ms."""

    monitor_gamma: Annotated[float, Ge(0.2), Le(5)] | Drawn | None = None
    """`drawn` from 2.0..2.4."""

    tilt_deg: tuple[Annotated[float, Ge(-10), Le(10)], Annotated[float, Ge(-10), Le(10)]] | Drawn | None = None
    """Of the mask plane, along rows and columns; `drawn` within a radius of 1."""

    gap_error: Annotated[float, Ge(-0.2), Le(0.2)] | Drawn | None = None
    """Relative; `drawn` from -0.03..0.03."""

    def errors(self) -> dict[str, Any]:
        """The errors of this world by name, drawn or fixed."""
        drawn: dict[str, Any] = {
            "shift_px": self._in_disc(2.0),
            "rotation_deg": self._between("rotation_deg", -2.0, 2.0),
            "scale": self._between("scale", 0.97, 1.03),
            "blur_px": self._between("blur_px", 0.3, 1.0),
            "panel_gamma": self._between("panel_gamma", 1.8, 2.6),
            "contrast": math.exp(self._between("contrast", math.log(30), math.log(300))),
            "vignetting": self._between("vignetting", 0.10, 0.40),
            "dark_offset": self._between("dark_offset", 0.01, 0.03),
            "stray": self._between("stray", 0.02, 0.08),
        }
        fixed = {name: value for name in drawn if (value := getattr(self, name)) is not None}
        return drawn | fixed | {"prnu": self.prnu, "column_offset": self.column_offset} | self._further()

    def _further(self) -> dict[str, Any]:
        """The errors that are there only when the file names them."""
        drawn: dict[str, Any] = {
            "gain_error": self._between("gain_error", -0.1, 0.1),
            "read_noise_e": self._between("read_noise_e", 2.0, 6.0),
            "crosstalk": self._between("crosstalk", 0.0, 0.1),
            "panel_response_s": self._between("panel_response_s", 1e-3, 5e-3),
            "monitor_gamma": self._between("monitor_gamma", 2.0, 2.4),
            "tilt_deg": self._in_disc(1.0, "tilt_deg"),
            "gap_error": self._between("gap_error", -0.03, 0.03),
        }
        said = {name: getattr(self, name) for name in drawn}
        return {name: drawn[name] if value == "drawn" else value for name, value in said.items() if value is not None}

    def make(self, twin: TwinSettings, roads: Roads, state_dir: Path) -> World:
        """The world: `twin` with these errors in place of its own values. state_dir: where lamps keep their state."""
        errors = self.errors()
        changed: dict[str, dict[str, Any]] = {
            "registration": {name: errors[name] for name in ("shift_px", "rotation_deg", "scale", "blur_px")},
            "panel": {"gamma": errors["panel_gamma"], "lut": None, "contrast": errors["contrast"]},
            "sensor": {name: errors[name] for name in ("vignetting", "dark_offset", "prnu", "column_offset")},
            "light": {"stray": errors["stray"]},
            "optics": {"margin_px": None},
        }
        changed["sensor"]["map_seed"] = self.seed
        for name, (block, key) in IN_SETTINGS.items():
            if name in errors:
                changed.setdefault(block, {})[key] = errors[name]
        if "gain_error" in errors:
            ratio = 1 + errors["gain_error"]
            changed["sensor"]["conversion_gain_dn_per_e"] = twin.sensor.gain_dn_per_e * ratio
            changed["sensor"]["full_well_e"] = twin.sensor.full_well_e * max(1.0, 1 / ratio)
        as_values: dict[str, Tensor] = {}
        if "tilt_deg" in errors:
            as_values["tilt_rad"] = torch.deg2rad(torch.tensor(errors["tilt_deg"], dtype=torch.float64))
        if "gap_error" in errors:
            as_values["gap_error"] = torch.tensor(errors["gap_error"], dtype=torch.float64)
        values = twin.model_dump()
        true_twin = TwinSettings.model_validate({**values, **{key: values[key] | new for key, new in changed.items()}})
        return World(
            true_twin,
            roads,
            seed=self.seed,
            noise=self.noise,
            live_scene=self.live_scene,
            state_dir=state_dir,
            drawn=errors,
            values=as_values,
        )

    def _stream(self, name: str) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence((self.seed, zlib.crc32(name.encode()))))

    def _between(self, name: str, low: float, high: float) -> float:
        return float(self._stream(name).uniform(low, high))

    def _in_disc(self, radius: float, name: str = "shift_px") -> tuple[float, float]:
        stream = self._stream(name)
        r, angle = radius * math.sqrt(stream.uniform()), stream.uniform(0, 2 * math.pi)
        return r * math.cos(angle), r * math.sin(angle)
