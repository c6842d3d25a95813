"""The exposures that a twin is fitted to: known patterns, exposed for as long as the light that leaks allows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from protocols.twin_fit.captures import Captures, joined
from protocols.twin_fit.fitted import twin_from
from protocols.twin_fit.patterns import Shown
from protocols.twin_fit.priors import Prior, as_twin_values, values_by_name

if TYPE_CHECKING:
    from protocols.calibrate.bench import Bench

FloatArray = npt.NDArray[np.float64]

FILL = 0.7
"""Of the brightest pixel of a mask's frames, as foretold; the panel may be brighter at grey levels than believed."""

PILOT_FILL = 0.8
LEAST_FILL = 0.02
"""Below it a bench counts as dark."""

LEAK_TIMES_LONGER = 8.0
"""The closed panel is exposed so much longer than the open one, to see what leaks."""

LONGEST_TO_TYPICAL = 16.0
"""No mask is exposed longer than so many times the typical one: a panel that is opaque would take forever."""

SATURATED_SHARE = 2e-3
"""Of the pixels of a mask's frames; with more they are taken again, at half the time."""

RETAKES = 4


class Taker:
    """Takes captures on an opened bench. The first thing it does is to look how bright the open and closed panel are.

    prior: its values and maps, with the light that was found, tell how long each pattern is exposed.
    """

    def __init__(self, bench: Bench, prior: Prior) -> None:
        self._bench, self._rig = bench, bench.rig
        self._black_dn = float(
            bench.frames("black", bench.black(), bench.closed_mask(), bench.exposure_limits_s[0], keep=False).mean()
        )
        values = {
            **prior.fixed,
            **as_twin_values(values_by_name(prior.parameters, [p.start for p in prior.parameters])),
        }
        values.pop("dark_map_dn", None)
        values["dark_offset"] = 0.0
        self._twin = twin_from(bench.rig.spec, values, roads=bench.rig.roads, dtype=torch.float64)
        self._as_bright_as_the_bench()

    def take(self, name: str, patterns: Sequence[Shown]) -> Captures:
        """Frames of all `patterns`, kept among the raw ones as `name`, in order, with `name.pattern`."""
        rates = [self._peak_rate(shown) for shown in patterns]
        low_s, high_s = self._bench.exposure_limits_s
        full_dn = FILL * (self._bench.saturation_dn - self._black_dn)
        wanted_s = full_dn / np.maximum(rates, 1e-12)
        longest_s = LONGEST_TO_TYPICAL * float(np.median(wanted_s))
        times_s = np.clip(np.minimum(wanted_s, longest_s), low_s, high_s)
        return joined(
            [self._take_one(name, place, shown, float(times_s[place])) for place, shown in enumerate(patterns)]
        )

    def _take_one(self, name: str, place: int, shown: Shown, exposure_s: float) -> Captures:
        bench = self._bench
        for attempt in range(RETAKES + 1):
            pixels = bench.frames(name, shown.scenes, shown.mask, exposure_s, keep=False)[:, 0]
            if (pixels >= bench.saturation_dn).mean() <= SATURATED_SHARE or attempt == RETAKES:
                break
            exposure_s /= 2
        took_s = np.asarray(bench.took_s, dtype=np.float64)
        for key, array in {"": pixels, ".exposure_s": took_s, ".pattern": np.full(len(pixels), place)}.items():
            before = bench.raw.get(f"{name}{key}")
            bench.raw[f"{name}{key}"] = array if before is None else np.concatenate([before, array])
        return Captures(
            np.asarray(shown.scenes, dtype=np.float64),
            shown.mask[None],
            np.zeros(len(pixels), dtype=np.int64),
            took_s,
            pixels,
            bench.saturation_dn,
        )

    def _as_bright_as_the_bench(self) -> None:
        """Set light and leak of the twin by the white scene through the open and through the closed panel."""
        bench = self._bench
        opened_s = bench.exposure_for(bench.white(), bench.open_mask(), PILOT_FILL, black_dn=self._black_dn)
        closed_s = min(LEAK_TIMES_LONGER * opened_s, bench.exposure_limits_s[1])
        rates = []
        for mask, exposure_s in ((bench.open_mask(), opened_s), (bench.closed_mask(), closed_s)):
            frame = bench.frames("brightness", bench.white(), mask, exposure_s, keep=False)[0, 0]
            rates.append(max(float(np.quantile(frame, 0.99)) - self._black_dn, 0.5) / exposure_s)
        signal_dn, range_dn = rates[0] * opened_s, bench.saturation_dn - self._black_dn
        if signal_dn < LEAST_FILL * range_dn:
            bench.refuse(
                f"the frames are empty: a white scene through the open panel gives {signal_dn:.1f} DN above the dark "
                f"after {opened_s:g} s, {LEAST_FILL * range_dn:.0f} DN are needed: switch the lamp on, open the "
                "shutter, and look whether panel and monitor show what they are given"
            )
        leak = min(max(rates[1] / rates[0], 1e-6), 0.5)
        self.brightness = {"open_dn_per_s": rates[0], "closed_dn_per_s": rates[1], "open_exposure_s": opened_s}
        self._twin.log_contrast.fill_(-np.log(leak))
        foretold = self._peak_rate(Shown("open", bench.open_mask(), bench.white()[None]))
        self._twin.photons_per_s.mul_(rates[0] / foretold)

    def _peak_rate(self, shown: Shown) -> float:
        """DN per second of the brightest pixel, foretold."""
        with torch.no_grad():
            scenes = self._twin.through_monitor(torch.from_numpy(shown.scenes)[:, None].double())
            psf = self._twin.psf(torch.from_numpy(shown.mask).double())
            photons = self._twin.irradiance(scenes, psf, roi=self._bench.frame_shape)
            sensor = self._twin.sensor
            peak = photons.max() * sensor.settings.best_efficiency * sensor.gain_dn_per_e
        return float(peak)
