"""`error_budget`: switches the errors of the fitted twin on one at a time, and off one at a time."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from annotated_types import Ge, Le

from labctl.durable import write_json
from labctl.errors import BadInput, RunFailed
from labctl.references import OutputKind, Reference
from labctl.steps import Estimate, Source, Step, StepContext, StepResult, StepSetting
from protocols.error_budget.accounts import Account, account_of, interactions, lost, shares, told_account
from protocols.error_budget.terms import (
    EXPOSURE,
    PATTERN,
    VIGNETTING,
    Term,
    Values,
    flat_in_words,
    in_words,
    nominal_values,
    switched,
    terms_of,
)
from protocols.fit import check_captures, check_fit, check_panel
from protocols.splits import Split, spread

if TYPE_CHECKING:
    from torch import Tensor

    from labctl.calibration.record import Calibration
    from labctl.rig_file import RigSpec
    from protocols.model_file import TrainedCamera
    from sim.twin import Twin

Frames = npt.NDArray[np.float32]

BUDGET_FILE = "budget.json"
FLOOR_LIMIT = 1.5
"""From so many noise floors on, the fitted twin leaves errors that the budget cannot name; then it says so."""


class ErrorBudget(Step):
    """How much of the difference between simulated and captured frames each error explains, in DN and in accuracy.

    Each error of the fitted twin is put into the nominal twin alone, and taken from the fitted twin alone. Frames of
    the same test scenes so made are held against the captured ones, and given to the classifier as it was trained.
    Nothing is learned or chosen from the test scenes. Writes `budget.json`.
    """

    where: ClassVar[Literal["host", "child"]] = "child"
    outputs: ClassVar[Mapping[str, str]] = {"budget": "budget"}
    uses: ClassVar[frozenset[Source]] = frozenset({"data", "design", "model", "twin"})
    modules: ClassVar[tuple[str, ...]] = ("torch", "protocols.models", "sim.twin")

    type: Literal["error_budget"]

    model: Annotated[Reference, OutputKind("model")]
    """The camera that was trained in the nominal twin."""

    twin: Annotated[Reference, OutputKind("twin")]
    """The fitted twin of this bench."""

    frames: Annotated[Reference, OutputKind("frames")]
    """Captured through the mask of that camera."""

    scenes: Annotated[int, Ge(20), Le(10_000)] = 300
    """Test scenes that are compared, spread over those that were captured."""

    def check(self, setting: StepSetting) -> None:
        """Mask, scene and rig must fit, and the frames be raw frames of test scenes."""
        check_fit(setting)
        check_panel(setting, static=True)
        check_captures(self.frames, "test", 20, setting)
        capture = setting.protocol.steps[self.frames.step]
        if getattr(capture, "closed_mask", "none") != "none":
            raise BadInput(
                f"'{self.frames.step}' takes the frame of the closed mask off, which hides the errors that are asked "
                "for; give a capture with `closed_mask: none`",
                at=setting.at("frames"),
            )

    def estimate(self, setting: StepSetting) -> Estimate:
        """Compute only: about 35 twins."""
        return Estimate(seconds=5 + 0.06 * self.scenes, disk_bytes=2**20)

    def run(self, context: StepContext) -> StepResult:
        """Compare, and write what was found."""
        from labctl.calibration.record import Calibration
        from protocols.model_file import load_camera
        from protocols.training_loop import prepare_torch

        prepare_torch()
        setting = context.setting
        camera = load_camera(context.input(self.model), setting)
        fitted = Calibration.load(context.input(self.twin))
        found = _Comparison.of(self, context, camera, fitted)
        budget = found.budget(context)
        for text in budget["careful"]:
            context.log(f"careful: {text}")
        path = context.folder / BUDGET_FILE
        write_json(path, budget)
        return StepResult({"budget": path}, _metrics(budget))


@dataclass(frozen=True)
class _Comparison:
    """What all twins of a budget are compared on. scenes (n, 1, H, W), captured (n, 1, h, w) DN, labels (n,)."""

    rig: RigSpec
    camera: TrainedCamera
    calibration: Calibration
    fitted: Values
    nominal: Values
    nominal_flat: npt.NDArray[np.float64]
    radius_squared: npt.NDArray[np.float64]
    scenes: Frames
    captured: Frames
    labels: npt.NDArray[np.int64]
    training_labels: npt.NDArray[np.int64]
    exposures_s: tuple[float, float]
    repeats: int
    seed: int
    lights: dict[frozenset[str], Tensor] = field(default_factory=dict)

    @classmethod
    def of(
        cls, step: ErrorBudget, context: StepContext, camera: TrainedCamera, calibration: Calibration
    ) -> _Comparison:
        from protocols.captured import labelled_frames
        from protocols.scenes import load_scenes
        from protocols.simulation import Simulation
        from protocols.twin_fit.fitted import check_twin, values_of

        setting = context.setting
        check_twin(setting.rig, calibration)
        data = load_scenes(context)
        captured = labelled_frames(context.input(step.frames), camera.class_names)
        test = captured.part(Split.TEST)
        if len(test) < 20:
            raise RunFailed(
                f"{len(test)} test frames were captured, 20 are needed; set `test: all` in the capture step"
            )
        test = test[spread(len(test), step.scenes)]
        row_of = {int(sample): row for row, sample in enumerate(data.sample_ids)}
        rows = np.asarray([row_of[int(sample)] for sample in captured.sample_ids[test]])
        simulation = Simulation(setting.rig, camera.exposure, design=camera.design)
        simulated_s = float(simulation.exposure_s(simulation.psf(camera.mask)))
        times_s = captured.exposure_s[test]
        if np.ptp(times_s) > 1e-3 * times_s.mean():
            raise BadInput(
                f"the frames were exposed for {times_s.min():g} to {times_s.max():g} s; a budget needs one exposure"
            )
        fitted = values_of(calibration)
        region = fitted["flat_map"].shape if "flat_map" in fitted else captured.frames.shape[-2:]
        return cls(
            rig=setting.rig,
            camera=camera,
            calibration=calibration,
            fitted=fitted,
            nominal=nominal_values(simulation.twin, fitted),
            nominal_flat=simulation.twin.sensor.flat(region).double().numpy(),
            radius_squared=_cut(simulation.twin.sensor.radius_squared.double().numpy(), region),
            scenes=np.asarray(data.images[rows]),
            captured=captured.frames[test],
            labels=captured.labels[test],
            training_labels=data.labels[data.part(Split.TRAIN)],
            exposures_s=(simulated_s, float(times_s.mean())),
            repeats=int(getattr(setting.protocol.steps[step.frames.step], "repeats", 1)),
            seed=int(setting.seed or 0),
        )

    def budget(self, context: StepContext) -> dict[str, Any]:
        """All accounts, as they are written."""
        from protocols.metrics import accuracy_interval, majority_baseline

        terms = terms_of(self.nominal, self.fitted, self.exposures_s)
        everything = frozenset(term.name for term in terms)
        nominal = self.account(terms, frozenset())
        fitted = self.account(terms, everything)
        noise_rms_dn = self.noise_rms_dn(terms)
        rows = []
        for number, term in enumerate(terms):
            alone = self.account(terms, frozenset({term.name}))
            without = self.account(terms, everything - {term.name})
            rows.append(
                {
                    "name": term.name,
                    "title": term.title,
                    "text": self._in_words(term),
                    "alone": told_account(alone, noise_rms_dn, nominal) | shares(alone, nominal, fitted),
                    "without": told_account(without, noise_rms_dn, fitted) | lost(without, nominal, fitted),
                }
            )
            context.progress(number + 1, len(terms), "errors")
            context.stop_here("nothing of the budget is kept; it takes seconds")
        real = accuracy_interval([self.answers(self.captured)])
        budget = {
            "scenes": len(self.labels),
            "exposure_s": {"simulated": self.exposures_s[0], "captured": self.exposures_s[1]},
            "noise_rms_dn": noise_rms_dn,
            "nominal": told_account(nominal, noise_rms_dn, nominal),
            "fitted": told_account(fitted, noise_rms_dn, nominal),
            "captured": {
                "accuracy": real.mean,
                "accuracy_low": real.low,
                "accuracy_high": real.high,
                "majority": majority_baseline(self.training_labels, self.labels),
            },
            "terms": rows,
            "interactions": interactions([row["alone"] for row in rows], fitted.accuracy - nominal.accuracy),
        }
        return budget | {"careful": _careful(budget)}

    def account(self, terms: tuple[Term, ...], on: Collection[str]) -> Account:
        """Frames of the twin that has only the errors `on`, held against the captured ones."""
        clean, noisy = self.frames(terms, on)
        return account_of(clean, self.captured, self.answers(noisy))

    def noise_rms_dn(self, terms: tuple[Term, ...]) -> float:
        """RMS that noise alone makes in frames of the fitted twin, repeats averaged as in the captured ones."""
        clean, noisy = self.frames(terms, frozenset(term.name for term in terms))
        return float(np.sqrt(np.square(noisy - clean, dtype=np.float64).mean()))

    def answers(self, frames: Frames) -> npt.NDArray[np.bool_]:
        """(n,) whether frames (n, 1, h, w) DN are recognised."""
        import torch

        right: npt.NDArray[np.bool_] = self.camera.answers(torch.from_numpy(frames)).numpy() == self.labels
        return right

    def frames(self, terms: tuple[Term, ...], on: Collection[str]) -> tuple[Frames, Frames]:
        """(n, 1, h, w) DN of the twin that has only the errors `on`: without noise, and with it.

        The noise is of the same draws for every twin, so that differences are not of luck.
        """
        import torch

        from protocols.keys import stream_seed
        from protocols.twin_fit.fitted import margin_of, twin_from
        from sim.noise import TorchDraws

        values = switched(terms, on, self.fitted, nominal_flat=self.nominal_flat, radius_squared=self.radius_squared)
        twin = twin_from(self.rig, values, dtype=torch.float32, margin_px=margin_of(self.calibration))
        time_s = self.exposures_s[EXPOSURE in on]
        draws = TorchDraws(torch.Generator().manual_seed(stream_seed(self.seed, "error-budget")))
        light = self._light(twin, values)
        with torch.no_grad():
            clean = twin.sensor.expose(light, exposure_s=time_s)
            taken = [twin.sensor.expose(light, exposure_s=time_s, draws=draws) for _ in range(self.repeats)]
            return clean.numpy(), torch.stack(taken).mean(dim=0).numpy()

    def _light(self, twin: Twin, values: Values) -> Tensor:
        """(n, 1, h, w) photons per second; twins that differ in their sensors alone share it."""
        import torch

        from protocols.simulation import CHUNK
        from sim.twin import OF_SENSOR

        before_sensor = frozenset(values) - {*OF_SENSOR, "full_well_e"}
        if before_sensor not in self.lights:
            with torch.no_grad():
                psf = twin.psf(self.camera.mask)
                chunks = torch.from_numpy(self.scenes).split(CHUNK)
                light = [twin.irradiance(twin.through_monitor(scenes), psf) for scenes in chunks]
            self.lights[before_sensor] = torch.cat(light)
        return self.lights[before_sensor]

    def _in_words(self, term: Term) -> str:
        if term.name == EXPOSURE:
            simulated, captured = (f"{1e3 * time_s:.3g} ms" for time_s in self.exposures_s)
            return f"{simulated} → {captured}"
        if term.name in (VIGNETTING, PATTERN) and "flat_map" in self.fitted:
            return flat_in_words(term, self.nominal_flat, self.fitted["flat_map"], self.radius_squared)
        return in_words(term, self.nominal, self.fitted)


def _cut(whole: npt.NDArray[np.float64], region: tuple[int, int]) -> npt.NDArray[np.float64]:
    top, left = ((side - wanted) // 2 for side, wanted in zip(whole.shape, region, strict=True))
    return whole[top : top + region[0], left : left + region[1]]


def _careful(budget: Mapping[str, Any]) -> list[str]:
    said = []
    nominal, fitted, captured = budget["nominal"], budget["fitted"], budget["captured"]
    if fitted["rms_dn"] >= nominal["rms_dn"]:
        said.append("the fitted twin is no nearer to the captured frames than the nominal one; fit it anew")
    elif fitted["in_noise"] > FLOOR_LIMIT:
        said.append(
            f"the fitted twin is {fitted['in_noise']:.2f} noise floors from the captured frames: there is an error "
            "that no term names"
        )
    if not captured["accuracy_low"] <= fitted["accuracy"] <= captured["accuracy_high"]:
        said.append(
            f"on frames of the fitted twin the classifier is right in {fitted['accuracy']:.1%}, on captured ones in "
            f"{captured['accuracy']:.1%}: the terms below do not explain all of the loss"
        )
    return said


def _metrics(budget: Mapping[str, Any]) -> dict[str, Any]:
    ends = {f"{end}_{name}": budget[end][name] for end in ("nominal", "fitted") for name in ("rms_dn", "accuracy")}
    alone = {f"{term['name']}_explained": term["alone"]["explained_shape"] for term in budget["terms"]}
    changes = {f"{term['name']}_accuracy_change": term["alone"]["change"][0] for term in budget["terms"]}
    return {
        **ends,
        "noise_rms_dn": budget["noise_rms_dn"],
        "captured_accuracy": budget["captured"]["accuracy"],
        "explained_sum": budget["interactions"]["explained_shape_sum"],
        **alone,
        **changes,
    }
