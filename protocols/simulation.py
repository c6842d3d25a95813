"""Scenes, mask and exposure through the twin of the rig: what training sees instead of a camera."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from labctl.rig_file import RigSpec
    from protocols.data import Pictures
    from sim.designs.base import CameraDesign, Patterns
    from sim.twin import Twin

CHUNK = 128
"""Scenes per call where no gradient is wanted; bounds memory, not results."""

HELD_BYTES = 512 * 2**20
"""Scenes of up to so many bytes are kept as the monitor shows them; of more, each batch is made when asked for."""


@dataclass(frozen=True)
class ExposureRule:
    """How long a mask is exposed."""

    fill: float
    """With `auto`: a white scene exposes the middle of the sensor to this share of the full well."""

    exposure_s: float | Literal["auto"] = "auto"
    """`auto` gives every mask the time it needs: light is free. A time in seconds is the same for every mask."""


class Simulation:
    """The twin of a rig, exposed by a rule, within the limits of its sensor.

    twin: a fitted one in place of what the rig file says; see `protocols.twin_fit.fitted`. design: whose masks are
    exposed, in its way: by the panel unless it says otherwise. Without one they are masks on the panel.
    """

    def __init__(
        self,
        rig: RigSpec,
        exposure: ExposureRule,
        *,
        device: torch.device | str = "cpu",
        twin: Twin | None = None,
        design: CameraDesign | None = None,
    ) -> None:
        self.twin: Any = (rig.twin.build(rig.roads) if twin is None else twin).to(device)
        self.exposure, self.design = exposure, design
        self.device = torch.device(device)

    def shown(self, scenes: Tensor) -> Tensor:
        """(N, 1, H, W) radiance as the scene monitor really shows it: 8 bit, its gamma, its black."""
        shown: Tensor = self.twin.through_monitor(scenes)
        return shown.to(self.device)

    def cast(self, mask: Tensor) -> Tensor:
        """(h, w) or (N, h, w) PSF of a mask (H, W) or (N, H, W) as the design brings it to the sensor; see `Twin.psf`.

        With gradients.
        """
        shown = self.design is None or self.design.on_panel
        psf: Tensor = self.twin.psf(mask) if shown else self.twin.psf_of_weights(mask)
        return psf

    def exposure_of(self, mask: Tensor) -> Tensor:
        """() time for a mask (H, W). Patterns (N, H, W) of a design share the time of the mask that stands for them.

        So will a camera expose them: a time for each frame would tell patterns apart. Without a design, (N,).
        """
        return self.exposure_s(self.cast(mask if mask.ndim == 2 or self.design is None else self.design.mask()))

    def exposure_s(self, psf: Tensor) -> Tensor:
        """() time for a mask with this shadow; differentiable where it follows the mask."""
        if self.exposure.exposure_s == "auto":
            time_s: Tensor = self.twin.white_exposure_s(self.twin.open_area(psf), self.exposure.fill)
            return time_s
        return torch.as_tensor(self.exposure.exposure_s, dtype=psf.dtype, device=psf.device)

    def white_e(self, psf: Tensor) -> float:
        """Electrons that a white scene makes in a pixel of the middle in that time, before any full well."""
        rate = float(self.twin.photons_per_s * self.twin.open_area(psf))
        efficiency = float(self.twin.settings.sensor.best_efficiency)
        return rate * efficiency * float(self.exposure_s(psf))

    def frames(self, shown: Tensor, mask: Tensor, *, draws: Any = None) -> Tensor:
        """(N, 1, H, W) shown scenes through (H, W) or (N, H, W) to (N, 1, h, w) DN, with gradients in the mask."""
        psf = self.cast(mask)
        exposure_s = self.exposure_s(psf) if mask.ndim == 2 else self.exposure_of(mask)
        frames: Tensor = self.twin.sensor.expose(self.twin.irradiance(shown, psf), exposure_s=exposure_s, draws=draws)
        return frames

    @torch.no_grad()
    def psf(self, mask: Tensor) -> Tensor:
        """(h, w) shadow of a mask (H, W) in fully open sensor pixels, after panel and optics; of colours, the mean."""
        psf = self.cast(mask)
        return psf.mean(dim=-3) if self.twin.has_colour_psf else psf

    def chunks(self, shown: Tensor | ShownScenes, mask: Tensor | Patterns, *, draws: Any = None) -> Iterator[Tensor]:
        """`frames` of CHUNK scenes after the other, without gradients: a set need not fit in memory.

        mask: (H, W) for all, or what gives the mask or masks of the next n scenes; see `CameraDesign.patterns`.
        """
        for start in range(0, len(shown), CHUNK):
            with torch.no_grad():
                part = shown[start : start + CHUNK]
                masks = mask if isinstance(mask, Tensor) else mask(len(part))
                frames = self.frames(part, masks, draws=draws)
            yield frames

    def all_frames(self, shown: Tensor | ShownScenes, mask: Tensor | Patterns, *, draws: Any = None) -> Tensor:
        """All `chunks` as one."""
        return torch.cat(list(self.chunks(shown, mask, draws=draws)))


class ShownScenes:
    """Some rows of a data set as the monitor shows them; made once when they fit in memory, else batch by batch.

    images: (N, 1, H, W) radiance. rows: (n,) which of them. Index with a slice or a tensor of places 0..n-1.
    """

    def __init__(self, simulation: Simulation, images: Pictures, rows: np.ndarray) -> None:
        self.simulation, self.images, self.rows = simulation, images, np.asarray(rows)
        self.held: Tensor | None = None
        if 4 * len(self.rows) * int(np.prod(images.shape[1:])) <= HELD_BYTES:
            self.held = simulation.shown(torch.from_numpy(np.asarray(images[self.rows])))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, places: slice | Tensor) -> Tensor:
        """(n, 1, H, W) shown radiance on the device of the simulation."""
        if self.held is not None:
            return self.held[places]
        chosen = self.rows[places if isinstance(places, slice) else places.cpu().numpy()]
        return self.simulation.shown(torch.from_numpy(np.asarray(self.images[chosen])))

    def some(self, places: Tensor | np.ndarray) -> ShownScenes:
        """These places as scenes of their own."""
        return ShownScenes(self.simulation, self.images, self.rows[np.asarray(places)])
