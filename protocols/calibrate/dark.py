"""Dark frame and black level: what the sensor shows without light."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from annotated_types import Ge, Le

from labctl.calibration.record import ArrayNote, Calibration, Value
from labctl.steps import StepSetting
from protocols.calibrate.kind import Found, Kind

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from protocols.calibrate.bench import Bench


class Dark(Kind):
    """Mean of frames with the mask closed and the scene black, at the shortest exposure."""

    name: ClassVar[str] = "dark"
    title: ClassVar[str] = "Dark frame and black level"

    frames: Annotated[int, Ge(4), Le(4096)] = 64
    """Frames that are averaged."""

    def exposures(self, setting: StepSetting) -> int:
        """See `Kind.exposures`."""
        return self.frames

    def measure(self, bench: Bench) -> Found:
        """See `Kind.measure`."""
        low_s, _ = bench.exposure_limits_s
        stack = bench.frames("dark", bench.black(), bench.closed_mask(), low_s, repeats=self.frames)[0].astype(float)
        mean, noise = stack.mean(axis=0), stack.std(axis=0, ddof=1)
        level = float(mean.mean())
        return Found(
            values={
                "black_level_dn": Value(
                    value=level, error=float(np.sqrt(np.mean(noise**2) / stack.size)), unit="DN", text="Black level"
                ),
            },
            arrays={"dark_dn": (mean, ArrayNote(unit="DN", text="Mean dark frame"))},
            holds_for={"frame_shape": list(bench.frame_shape)},
        )

    def draw(self, calibration: Calibration) -> Figure:
        """See `Kind.draw`."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6, 4))
        axes = figure.subplots()
        shown = axes.imshow(calibration.arrays["dark_dn"])
        figure.colorbar(shown, ax=axes, label="DN")
        return figure
