"""What a kind of calibration works with: the opened rig, frames that are kept, and a way to refuse with a picture."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import numpy as np
import numpy.typing as npt

from labctl import __version__
from labctl.calibration.record import Calibration
from labctl.calibration.validity import beliefs_of, bench_hash
from labctl.durable import write_whole
from labctl.errors import BadInput, RunFailed
from labctl.exposure import Exposure, ExposurePlan, FloatArray
from labctl.timing import identity
from protocols.exposure_search import Pilot, search_exposure

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure

    from labctl.rig import Rig
    from labctl.steps import StepContext

Pixels = npt.NDArray[np.uint16]

HOT_SHARE = 1e-3
"""Brightest pixels that do not decide whether a frame saturates."""

PILOT_GAIN_DB = 0.0


@dataclass
class Bench:
    """One kind of calibration at work on an opened rig.

    scene_px, cells: grids (rows, columns) of scene and mask. frame_shape: (rows, columns) of the centred region that is
    read, as captures of these grids read it. built_on: the calibrations that the kind stands on, by kind.
    """

    rig: Rig
    kind: str
    scene_px: tuple[int, int]
    cells: tuple[int, int]
    frame_shape: tuple[int, int]
    built_on: Mapping[str, Calibration]
    context: StepContext
    first_id: int
    raw: dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    taken: int = 0
    took_s: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    """Exposure times that the camera really took, one for each frame of the last call of `frames`."""

    def __post_init__(self) -> None:
        self._ids = count(self.first_id)

    # Pictures

    def white(self) -> FloatArray:
        """(H, W) scene of radiance 1."""
        return np.ones(self.scene_px)

    def black(self) -> FloatArray:
        """(H, W) scene at level 1 of the monitor: level 0 everywhere would stand for one that is taken away."""
        return np.full(self.scene_px, float(self.rig.roads.scene.scene_of(1)))

    def open_mask(self) -> FloatArray:
        """(H, W) mask of transmittance 1."""
        return np.ones(self.cells)

    def closed_mask(self) -> FloatArray:
        """(H, W) mask of transmittance 0, as closed as the panel gets."""
        return np.zeros(self.cells)

    def some_cells(self, places: Sequence[tuple[int, int]]) -> FloatArray:
        """(H, W) mask of which only these (row, column) cells are open."""
        mask = self.closed_mask()
        for row, column in places:
            mask[row, column] = 1.0
        return mask

    # Frames

    @property
    def saturation_dn(self) -> int:
        """DN at which a pixel is saturated."""
        return int(self.rig.devices().camera.saturation_dn)

    @property
    def exposure_limits_s(self) -> tuple[float, float]:
        """Shortest and longest exposure of the camera."""
        return self.rig.devices().camera.exposure_limits_s

    def frames(
        self,
        name: str,
        scenes: FloatArray | Literal["live"],
        masks: FloatArray,
        exposure_s: float,
        *,
        repeats: int = 1,
        gain_db: float = 0.0,
        keep: bool = True,
        **tells: npt.ArrayLike,
    ) -> Pixels:
        """(n, repeats, h, w) DN of n exposures, each taken `repeats` times in a row.

        scenes: (H, W) for all, or (n, H, W); live leaves the scene display blank. masks: (H, W) for all, or (n, H, W),
        on the grid of the design or any other that fits the panel. keep: append them to the raw frames as `name`;
        tells: (n,) what else tells them apart (`level=...`). The exposure that the camera really took stands beside
        them, as `name.exposure_s`.
        """
        n = max(1 if isinstance(scenes, str) or scenes.ndim == 2 else len(scenes), len(masks) if masks.ndim == 3 else 1)
        order = np.repeat(np.arange(n), repeats)
        all_scenes = scenes if isinstance(scenes, str) else _in_order(scenes, order)
        all_masks = masks[order] if masks.ndim == 3 else masks[None]
        ids = np.array([next(self._ids) for _ in order], dtype=np.int64)
        plan = ExposurePlan(
            scenes=all_scenes,
            masks=np.asarray(all_masks, dtype=np.float64)[:, None],
            exposure=Exposure(exposure_s=exposure_s, gain_db=gain_db, roi=self.frame_shape),
            exposure_ids=ids,
        )
        pixels: list[Pixels] = []
        times: list[float] = []
        for frame in self.rig.stream_any(plan):
            pixels.append(frame.pixels[0, 0])
            times.append(float(frame.exposure_s[0]))
            self.taken += 1
            self.context.stop_here(f"calibrations made before `{self.kind}` are kept")
        stack, self.took_s = np.stack(pixels), np.array(times)
        if keep:
            self._keep(name, stack, exposure_s=self.took_s, **{k: np.asarray(v)[order] for k, v in tells.items()})
        return stack.reshape(n, repeats, *self.frame_shape)

    def exposure_for(
        self, scene: FloatArray, mask: FloatArray, fill: float, *, black_dn: float | None = None, where: Any = None
    ) -> float:
        """Exposure time in seconds at which the frame of `scene` (H, W) through `mask` (H, W) is filled to `fill`.

        fill: between black and saturation. where: (h, w) bool of the pixels that count, by their mean; by default the
        brightest pixels but for a thousandth. Raises HardwareError where there is too much light for the camera.
        """
        low_s, high_s = self.exposure_limits_s
        if black_dn is None:
            black_dn = float(self.frames("black", self.black(), self.closed_mask(), low_s, keep=False).mean())
        dark_dn = black_dn

        def pilot(exposure_s: float) -> Pilot:
            pixels = self.frames("pilot", scene, mask, exposure_s, keep=False)[0, 0]
            peak = float(np.quantile(pixels, 1 - HOT_SHARE))
            return Pilot(peak if where is None else float(pixels[where].mean()), peak)

        target_dn = dark_dn + fill * (self.saturation_dn - dark_dn)
        return search_exposure(
            pilot, target_dn=target_dn, dark_dn=dark_dn, top_dn=self.saturation_dn, limits_s=(low_s, high_s)
        )

    # What a record says of it

    def provenance(
        self, *, beliefs: tuple[str, ...], needs: Collection[str], readings: Mapping[str, float], began: float
    ) -> dict[str, Any]:
        """Who measured, on what and when: the fields of a `CalibrationRecord` that every kind fills alike.

        beliefs: sections of the twin. needs: roles of the devices that took part. readings: of the instruments before.
        began: on the monotonic clock.
        """
        spec, devices = self.rig.spec, self.rig.devices()
        roles = {"mask": devices.mask, "scene": devices.scene, "camera": devices.camera}
        return {
            "rig": spec.name,
            "rig_hash": spec.content_hash,
            "bench_hash": bench_hash(spec),
            "beliefs": beliefs_of(spec, beliefs),
            "devices": {
                role: identity(spec, role, device.describe_device())
                for role, device in roles.items()
                if role in needs and device is not None
            },
            "readings": dict(readings),
            "units": {
                f"{i}.{q}": there.unit for i, d in devices.instruments.items() for q, there in d.quantities.items()
            },
            "made": time.time(),
            "exposures": self.taken,
            "seconds": time.monotonic() - began,
            "labctl": __version__,
        }

    # Saying no

    def refuse(self, text: str, draw: Callable[[], Figure] | None = None) -> NoReturn:
        """Raise RunFailed: these frames do not allow the calibration. text: what is wrong and what to do next.

        draw: makes the picture that shows it; it is written beside the step's files and named in the error.
        """
        shown = ""
        if draw is not None:
            path = self.context.folder / "refused" / f"{self.kind}.png"
            save_figure(draw(), path)
            shown = f"; see {path}"
        raise RunFailed(f"calibration `{self.kind}`: {text}{shown}")

    def _keep(self, name: str, stack: Pixels, **tells: npt.NDArray[Any]) -> None:
        for key, array in {name: stack, **{f"{name}.{tell}": values for tell, values in tells.items()}}.items():
            before = self.raw.get(key)
            if before is not None and before.shape[1:] != array.shape[1:]:
                raise BadInput(f"raw frames '{key}' of {before.shape[1:]} and {array.shape[1:]} cannot be kept as one")
            self.raw[key] = array if before is None else np.concatenate([before, array])


def _in_order(scenes: FloatArray, order: npt.NDArray[np.intp]) -> FloatArray:
    """(N, 1, 1, H, W) scenes of a plan."""
    each = scenes[order] if scenes.ndim == 3 else np.broadcast_to(scenes, (len(order), *scenes.shape))
    return np.asarray(each, dtype=np.float64)[:, None, None]


def save_figure(figure: Figure, path: Path) -> Path:
    """Write `figure` as PNG, whole or not at all; returns `path`."""
    import io

    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110, bbox_inches="tight")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, content.getvalue())
    return path
