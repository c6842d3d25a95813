"""`fit_twin`: exposes known patterns, fits the twin to the frames, and refuses a twin that does not foretell others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from annotated_types import Gt, Le, MinLen

from labctl.errors import BadInput
from labctl.references import OutputKind, Reference
from labctl.steps import Estimate, Role, Source, Step, StepContext, StepResult, StepSetting
from protocols.calibrate.kind import DAY_S
from protocols.fit import check_instruments
from protocols.keys import first_exposure_id
from protocols.twin_fit.fitted import KIND
from protocols.twin_fit.patterns import FITTED_MASKS, HELD_OUT_MASKS, SCENES_PER_MASK

if TYPE_CHECKING:
    from labctl.calibration.record import Calibration

PILOTS = 12
"""Exposures that find out how bright the bench is, about."""

FITTABLE = (
    "shift_px", "rotation_rad", "scale", "blur_px", "tilt_rad", "gap_error", "panel_gamma", "log_contrast",
    "crosstalk", "monitor_gamma", "stray", "photons_per_s", "vignetting", "dark_offset",
)  # fmt: skip


class FitTwin(Step):
    """Fits the twin of the rig to about forty exposures of known scenes through known masks.

    The twin is the calibration `twin`: values with errors and maps, for `twin:` of later steps. It is refused when it
    errs on held-out frames by more than `limit` times their noise.
    """

    where: ClassVar[Literal["host", "child"]] = "host"
    outputs: ClassVar[Mapping[str, str]] = {"twin": "twin"}
    needs: ClassVar[frozenset[Role]] = frozenset({"mask", "scene", "camera"})
    uses: ClassVar[frozenset[Source]] = frozenset({"rig"})
    newer: ClassVar[frozenset[str]] = frozenset({"free_form"})

    type: Literal["fit_twin"]

    calibration: Annotated[Reference, OutputKind("calibration")] | None = None
    """Calibrations that the fit starts from: their values are priors with their errors, their maps are taken over."""

    mask: Annotated[Reference, OutputKind("mask")] | None = None
    """A mask that the twin will be asked about, such as a trained one: it is exposed, too."""

    fit: Annotated[tuple[str, ...], MinLen(1)] = FITTABLE
    """Values of the twin to fit; the others stay at their prior. What a calibrated map stands for drops out by
    itself."""

    limit: Annotated[float, Gt(1), Le(100)] = 1.5
    """Largest error on held-out frames, over their noise: a bad twin is worse than a few labelled frames."""

    free_form: bool = False
    """Fit, beside the values, a rest of the PSF that no value explains, such as a ghost between panel and sensor: fixed
    to the sensor, the same behind every mask, and left out where it foretells no frame better."""

    instruments: dict[str, dict[str, float]] = {}
    """Quantities to set before, by instrument: `{lamp: {power: 1.0}}`; as for the frames that the twin is for."""

    max_age_s: Annotated[float, Gt(0), Le(366 * DAY_S)] = DAY_S
    """For how long the twin counts."""

    def check(self, setting: StepSetting) -> None:
        """Grids and rig must fit, the values exist."""
        scene_px, cells = setting.protocol.grids()
        setting.rig.twin.check_design(cells, scene_px, setting.rig.roads)
        unknown = [name for name in self.fit if name not in FITTABLE]
        if unknown:
            text = f"no twin can be fitted in {', '.join(unknown)}; it can in {', '.join(FITTABLE)}"
            raise BadInput(text, at=setting.at("fit"))
        check_instruments(self.instruments, setting)

    def estimate(self, setting: StepSetting) -> Estimate:
        """About forty exposures and some seconds of fitting."""
        masks = len(FITTED_MASKS) + len(HELD_OUT_MASKS) + 2 * (self.mask is not None)
        frames = masks * SCENES_PER_MASK + PILOTS
        shape = setting.rig.twin.frame_shape(*reversed(setting.protocol.grids()))
        return Estimate(
            seconds=(30 if self.free_form else 10) + frames * (0.002 if setting.rig.simulated else 0.3),
            frames=frames,
            disk_bytes=4 * frames * shape[0] * shape[1],
            moves=(f"shows {masks} masks on the SLM", f"shows {SCENES_PER_MASK} scenes through each"),
        )

    def run(self, context: StepContext) -> StepResult:
        """Expose, fit, judge; writes `twin.npz` and its page, and puts the twin on the shelf of the rig."""
        from labctl.calibration.shelf import Shelf
        from protocols.calibrate.bench import Bench, save_figure
        from protocols.capture.metadata import InstrumentReadings, set_instruments
        from protocols.twin_fit.fitting import fit_bench
        from protocols.twin_fit.page import twin_page

        setting, rig = context.setting, context.rig
        set_instruments(self.instruments, rig)
        scene_px, cells = setting.protocol.grids()
        bench = Bench(
            rig=rig,
            kind=KIND,
            scene_px=scene_px,
            cells=cells,
            frame_shape=setting.rig.twin.frame_shape(cells, scene_px),
            built_on={},
            context=context,
            first_id=first_exposure_id(context.content_hash),
        )
        twin = fit_bench(
            bench,
            self._calibrations(context),
            trained=None if self.mask is None else np.load(context.input(self.mask)),
            fit=self.fit,
            limit=self.limit,
            free_form=self.free_form,
            readings={k: v for k, v in InstrumentReadings(rig, 0.0).now().items() if v is not None},
            max_age_s=self.max_age_s,
        )
        for warning in twin.record.warnings:
            context.log(f"fitted twin: {warning}")
        path = twin.save(context.folder / "twin.npz")
        Shelf(rig.spec.name).put(twin)
        save_figure(twin_page(twin), context.folder / "pages" / f"{KIND}.png")
        return StepResult({"twin": path}, _metrics(twin))

    def _calibrations(self, context: StepContext) -> dict[str, Calibration]:
        from labctl.calibration.shelf import CalibrationSet
        from labctl.calibration.use import usable
        from protocols.twin_fit.priors import USED_KINDS

        if self.calibration is None:
            return {}
        there = CalibrationSet(context.input(self.calibration))
        return usable(there, [kind for kind in USED_KINDS if kind in there], context.rig.spec, context.log)


def _metrics(twin: Calibration) -> dict[str, Any]:
    single = {name: value.value for name, value in twin.record.values.items() if not isinstance(value.value, tuple)}
    return {"exposures": twin.record.exposures, "seconds": twin.record.seconds, **single}
