"""`choose`: how much the twins disagree about the answer to each training scene, and which to capture next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from annotated_types import Ge, Le

from labctl.errors import RunFailed
from labctl.references import OutputKind, Reference
from labctl.steps import Estimate, Source, Step, StepContext, StepResult, StepSetting
from protocols.balanced import ranked_in_turn
from protocols.fit import check_fit, check_panel
from protocols.keys import stream_seed
from protocols.learning_from_captures import as_bright_as_trained, check_corrections
from protocols.measurement import Corrections, Measurement
from protocols.scenes import load_scenes
from protocols.splits import Split

if TYPE_CHECKING:
    from labctl.calibration.record import Calibration
    from protocols.data import ImageSet
    from protocols.model_file import TrainedCamera
    from protocols.simulation import Simulation
    from sim.twin import Twin

FloatArray = npt.NDArray[np.float64]

SAMPLES_FILE, SCORES_FILE = "samples.npy", "scores.npz"

NOMINAL_WEIGHT = 0.5
"""Of the nominal twin among all; the draws of the fitted one share the rest. A fit that is sure of itself has draws
that are all alike: then what counts is how far the bench is from its data sheet for this scene."""

NEVER_NEGATIVE = frozenset({"blur_px", "crosstalk", "stray", "vignetting", "log_contrast", "photons_per_s"})
LEAST_SCORE = 1e-6
"""Scenes below are all of the same worth: rounding."""

ROOM_PX = 2
"""More room round the shadow than the fit needed: draws move it further."""


class Choose(Step):
    """Ranks the training scenes that were not captured yet, for `capture: {samples: ...}`.

    The score of a scene is the mutual information between the twin and the answer, in nats: entropy of the mean of the
    predictive distributions minus the mean of their entropies, over noise-free frames of the nominal twin and of draws
    from the posterior of the fitted one. No label is looked at but to balance the classes.

    Fine-tuning on scenes of high score was **not** better than on random ones: on as-built benches with digits, 40
    frames at random gave .974 and .961, 40 of which half were drawn by score .957 and .958. So by default the score is
    reported and the ranking is at random.
    """

    where: ClassVar[Literal["host", "child"]] = "child"
    outputs: ClassVar[Mapping[str, str]] = {"samples": "samples"}
    uses: ClassVar[frozenset[Source]] = frozenset({"data", "design", "model", "twin"})
    modules: ClassVar[tuple[str, ...]] = ("torch", "protocols.models", "sim.twin")

    type: Literal["choose"]

    model: Annotated[Reference, OutputKind("model")]
    """The camera whose answers count."""

    twin: Annotated[Reference, OutputKind("twin")]
    """The fitted twin of the bench."""

    frames: Annotated[Reference, OutputKind("frames")] | None = None
    """What was captured already: these scenes are left out, and exposure and closed mask are those of this set."""

    draws: Annotated[int, Ge(1), Le(256)] = 8
    """Twins that are drawn from the posterior."""

    sharpness: Annotated[float, Ge(0), Le(100)] = 1.0
    """Scenes are drawn, one after the other, with a chance that grows with this power of their score: 0 draws at
    random, a large one takes the highest scores in order. The highest alone are much alike, and not what the classifier
    will meet. [Kirsch et al. 2023, PowerBALD]"""

    random_share: Annotated[float, Ge(0), Le(1)] = 1.0
    """Of the ranking, drawn without a look at the score: few captures must still be like what the classifier will meet,
    which scenes of high score alone are not. Below 1 is an experiment."""

    balanced: bool = True
    """Classes take turns: labelled captures of one class alone teach little."""

    calibration: Annotated[Reference, OutputKind("calibration")] | None = None
    """By which frames of the fitted twin are corrected, as captured ones would be."""

    corrections: Corrections = "all"
    """With `calibration`: these parts of `dark`, `flat`, `gain`, `registration`, or all that it has."""

    def check(self, setting: StepSetting) -> None:
        """Mask, scene and rig must fit, and corrections have something to stand on."""
        check_fit(setting)
        check_panel(setting, static=True)
        check_corrections(self.calibration, self.corrections, setting)

    def estimate(self, setting: StepSetting) -> Estimate:
        """Compute only."""
        from protocols.scenes import scenes_of

        scenes = len(scenes_of(setting.protocol).part(Split.TRAIN))
        return Estimate(seconds=3 + 1e-3 * scenes * (self.draws + 1), disk_bytes=2**20)

    def run(self, context: StepContext) -> StepResult:
        """Rank; writes `samples.npy` (n,) int64 sample ids, best first, and `scores.npz`."""
        from labctl.calibration.record import Calibration
        from protocols.model_file import load_camera
        from protocols.training_loop import prepare_torch

        prepare_torch()
        data = load_scenes(context)
        camera = load_camera(context.input(self.model), context.setting)
        rows = self._rows(context, data)
        if not len(rows):
            raise RunFailed("all training scenes were captured already; there is nothing left to choose from")
        calibration = Calibration.load(context.input(self.twin))
        nominal, fitted = self._distributions(context, data, rows, camera, calibration)
        scores = disagreement(nominal, fitted)
        order = self._order(scores, data.labels[rows], int(context.setting.seed or 0))
        path = context.folder / SAMPLES_FILE
        np.save(path, data.sample_ids[rows[order]].astype(np.int64))
        np.savez_compressed(context.folder / SCORES_FILE, sample_id=data.sample_ids[rows], score=scores)
        differ = nominal.argmax(axis=-1) != fitted.mean(axis=0).argmax(axis=-1)
        metrics = {
            "scenes": len(rows),
            "mean_score_nat": float(scores.mean()),
            "highest_score_nat": float(scores.max()),
            "answered_differently": float(differ.mean()),
        }
        return StepResult({"samples": path}, metrics)

    def _order(self, scores: FloatArray, labels: npt.NDArray[np.int64], seed: int) -> npt.NDArray[np.int64]:
        """(n,) the ranking: by score and at random, in turn."""
        by_score, at_random = (
            np.argsort(-drawn_ranks(scores, sharpness, seed=stream_seed(seed, "choose", what)), kind="stable")
            for sharpness, what in ((self.sharpness, "by score"), (0.0, "at random"))
        )
        order = in_turn(by_score, at_random, self.random_share)
        return order[ranked_in_turn(labels[order], -np.arange(len(order)))] if self.balanced else order

    def _rows(self, context: StepContext, data: ImageSet) -> npt.NDArray[np.int64]:
        from labctl.frames.store import FrameStore

        rows = data.part(Split.TRAIN)
        if self.frames is None:
            return rows
        store = FrameStore.open(context.input(self.frames))
        taken = store.column("sample_id")[store.select(kind="scene")]
        return rows[~np.isin(data.sample_ids[rows], taken)]

    def _distributions(
        self,
        context: StepContext,
        data: ImageSet,
        rows: npt.NDArray[np.int64],
        camera: TrainedCamera,
        calibration: Calibration,
    ) -> tuple[FloatArray, FloatArray]:
        """(n, C) of the nominal twin and (draws, n, C) of the fitted one: what the classifier would answer."""
        from protocols.simulation import ExposureRule, Simulation

        rig, rule = context.setting.rig, camera.exposure
        closed = False
        scene_px, cells = context.setting.protocol.grids()
        shape = rig.twin.frame_shape(cells, scene_px)
        measurement = Measurement.of(rig, self._calibrations(context), self._parts, shape, context.log)
        if self.frames is None:
            measurement = measurement.searched() if rule.exposure_s == "auto" else measurement
        else:
            from labctl.frames.closed import has_closed
            from labctl.frames.store import FrameStore

            store = FrameStore.open(context.input(self.frames))
            closed = has_closed(store)
            measurement = as_bright_as_trained(measurement, context.input(self.frames), camera, context)
            scenes = store.select(kind="scene")
            rule = ExposureRule(rule.fill, float(np.mean(store.column("exposure_s")[scenes])))
        plain = Measurement.of(rig, {}, (), shape)
        nominal = _answers(
            Simulation(rig, camera.exposure, design=camera.design), data, rows, camera, plain, closed=False
        )
        drawn = []
        for number, twin in enumerate(drawn_twins(rig, calibration, self.draws, seed=int(context.setting.seed or 0))):
            simulation = Simulation(rig, rule, twin=twin, design=camera.design)
            drawn.append(_answers(simulation, data, rows, camera, measurement, closed=closed))
            context.progress(number + 1, self.draws, "twins")
            context.stop_here("nothing is kept of a choice that was not finished")
        return nominal, np.stack(drawn)

    def _calibrations(self, context: StepContext) -> Mapping[str, Calibration]:
        from labctl.calibration.shelf import CalibrationSet

        return {} if self.calibration is None else CalibrationSet(context.input(self.calibration))

    @property
    def _parts(self) -> Corrections:
        return () if self.calibration is None else self.corrections


def disagreement(nominal: FloatArray, fitted: FloatArray) -> FloatArray:
    """(n,) mutual information in nats between twin and answer. nominal: (n, C); fitted: (draws, n, C) probabilities.

    The nominal twin has the weight NOMINAL_WEIGHT, the draws share the rest. 0 where all answer alike, however unsure;
    at most the entropy of the weights.
    """
    of_fitted = (1 - NOMINAL_WEIGHT) / len(fitted)
    mean = NOMINAL_WEIGHT * nominal + of_fitted * fitted.sum(axis=0)
    unsure = NOMINAL_WEIGHT * _entropy(nominal) + of_fitted * _entropy(fitted).sum(axis=0)
    return np.asarray(np.maximum(_entropy(mean) - unsure, 0.0))


def drawn_ranks(scores: FloatArray, sharpness: float, *, seed: int) -> FloatArray:
    """(n,) numbers whose falling order is that in which scenes are drawn, without putting back, each time with a chance
    proportional to score^sharpness (Gumbel noise on sharpness log score)."""
    noise = np.random.default_rng(seed).gumbel(size=len(scores))
    return np.asarray(sharpness * np.log(np.maximum(scores, LEAST_SCORE)) + noise)


def in_turn(order: npt.NDArray[np.int64], other: npt.NDArray[np.int64], share: float) -> npt.NDArray[np.int64]:
    """A permutation that takes `share` of any beginning from `other`, the rest from `order`, each once."""
    sources, taken, found = (iter(order.tolist()), iter(other.tolist())), set[int](), list[int]()
    for place in range(len(order)):
        source = sources[int(share * (place + 1)) - int(share * place)]
        item = next(one for one in source if one not in taken)
        taken.add(item)
        found.append(item)
    return np.array(found, dtype=np.int64)


def drawn_twins(rig: Any, calibration: Calibration, draws: int, *, seed: int) -> Iterator[Twin]:
    """Twins with values drawn from the posterior of a fitted one: normal, with its covariance."""
    import torch

    from protocols.twin_fit.fitted import check_twin, margin_of, posterior_of, twin_from, values_of

    check_twin(rig, calibration)
    labels, mean, covariance = posterior_of(calibration)
    numbers = np.random.default_rng(seed).multivariate_normal(mean, covariance, size=draws, method="eigh")
    margin = margin_of(calibration)
    for row in numbers:
        values = dict(values_of(calibration))
        for label, number in zip(labels, row, strict=True):
            _put(values, label, float(number))
        yield twin_from(rig, values, dtype=torch.float32, margin_px=None if margin is None else margin + ROOM_PX)


def _entropy(probabilities: FloatArray) -> FloatArray:
    return np.asarray(-np.sum(probabilities * np.log(np.clip(probabilities, 1e-12, None)), axis=-1))


def _put(values: dict[str, Any], label: str, number: float) -> None:
    """Set one number of a value; what cannot be negative is not."""
    name, _, place = label.partition("[")
    if name in NEVER_NEGATIVE:
        number = max(number, 0.0)
    if place:
        changed = np.array(values[name], dtype=np.float64)
        changed[int(place.rstrip("]"))] = number
        values[name] = changed
    else:
        values[name] = number


def _answers(
    simulation: Simulation,
    data: ImageSet,
    rows: npt.NDArray[np.int64],
    camera: TrainedCamera,
    measurement: Measurement,
    *,
    closed: bool,
) -> FloatArray:
    """(n, C) probabilities of the classes for noise-free frames of these rows."""
    import torch

    from protocols.finetuning import TwinFrames
    from protocols.simulation import CHUNK, ShownScenes

    scenes = ShownScenes(simulation, data.images, rows)
    labels = torch.from_numpy(data.labels[rows])
    made = TwinFrames(simulation, scenes, labels, camera.design, measurement, closed=closed)
    camera.classifier.eval()
    found = []
    for start in range(0, len(rows), CHUNK):
        places = torch.arange(start, min(start + CHUNK, len(rows)))
        with torch.no_grad():
            found.append(camera.classifier(made.frames(places, None)).softmax(dim=1).double().numpy())
    return np.concatenate(found)
