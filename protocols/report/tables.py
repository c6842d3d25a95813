"""What a run folder proves, as numbers for a report: accuracies with intervals, losses and gains, the gap of frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from labctl.errors import RunFailed
from labctl.references import Reference
from labctl.store import RunFolder
from protocols.data.enlarged import sources_of
from protocols.metrics import Interval, accuracy_interval, paired_difference_interval
from protocols.scenes import scenes_of
from protocols.splits import Split, spread

if TYPE_CHECKING:
    from torch import Tensor

    from labctl.protocol import Protocol, StepInstance
    from labctl.rig_file import RigSpec
    from protocols.data import ImageSet
    from sim.designs.base import CameraDesign

STAGES = ("simulated", "captured", "finetuned")
EVALUATIONS = ("evaluate", "evaluate_video")
"""Types of steps that leave `predictions.npz`."""

STAGE_WORDS = {"simulated": "simulated", "captured": "as captured", "finetuned": "after fine-tuning"}

WIDE_POINTS = 10.0
"""An interval wider than this does not support a decimal of a percent."""

COMPARED_FRAMES = 400
"""Test scenes per design and seed in the comparison of frames; more would cost time and move no digit."""


@dataclass(frozen=True)
class Made:
    """A finished step instance and what it left in the run folder."""

    instance: StepInstance
    row: dict[str, Any]
    run: RunFolder

    @property
    def folder(self) -> Path:
        """Folder of the step instance."""
        return self.run.step_folder(self.instance.key)

    @property
    def design(self) -> str:
        """Name of the design, or a dash where the protocol has none."""
        return self.instance.design or "–"

    def path(self, output: str) -> Path:
        """Path of an output. Raises RunFailed when there is none."""
        if output not in self.row["outputs"]:
            raise RunFailed(f"step {self.instance.key} has no output '{output}' in summary.json; run it again")
        return self.run.path / self.row["outputs"][output]


@dataclass(frozen=True)
class Evidence:
    """A run folder, read at one moment. A step is finished only where `summary.json` says so of its present hash."""

    run: RunFolder
    protocol: Protocol
    rig: RigSpec
    summary: dict[str, Any]

    @cached_property
    def steps(self) -> list[dict[str, Any]]:
        """Rows of `summary.json`, without reports."""
        return [row for row in self.summary["steps"] if row["type"] != "report"]

    @cached_property
    def made(self) -> list[Made]:
        """All finished step instances, in the order in which they ran."""
        rows = {row["name"]: row for row in self.steps if row["status"] == "finished"}
        return [Made(i, rows[i.key], self.run) for i in self.protocol.instances() if i.key in rows]

    @cached_property
    def data(self) -> ImageSet:
        """The pictures. Raises RunFailed when the protocol has none."""
        if self.protocol.data is None:
            raise RunFailed("the protocol has no `data:`")
        images: ImageSet = scenes_of(self.protocol)
        return images

    @property
    def evaluates(self) -> bool:
        """Whether the protocol has an evaluation. Else no accuracy is missing: of a bench, a study, an attack alone."""
        return any(step.type in EVALUATIONS for step in self.protocol.steps.values())

    @property
    def designs(self) -> tuple[str, ...]:
        """Names of the designs, or one dash."""
        return self.protocol.compared or ("–",)

    def of(self, type_: str) -> list[Made]:
        """Finished instances of steps of one type."""
        return [made for made in self.made if made.instance.step.type == type_]

    def maker(self, made: Made, reference: Reference) -> Made:
        """The instance that made what `made` refers to. Raises RunFailed when it is not finished."""
        for other in self.made:
            same = (other.instance.design, other.instance.seed) == (made.instance.design, made.instance.seed)
            if same and other.instance.name == reference.step:
                return other
        raise RunFailed(f"{made.instance.key} refers to {reference}, which is not finished")


def read_evidence(run: RunFolder) -> Evidence:
    """Read a run folder as it stands."""
    return Evidence(run, run.protocol(), run.rig(), run.summary())


# Accuracy


@dataclass(frozen=True)
class Answers:
    """Answers of one trained camera to test items. All arrays (n,)."""

    labels: npt.NDArray[np.int64]
    predicted: npt.NDArray[np.int64]
    sample_ids: npt.NDArray[np.int64]

    @property
    def correct(self) -> npt.NDArray[np.bool_]:
        """Where the answer was right."""
        right: npt.NDArray[np.bool_] = self.labels == self.predicted
        return right


@dataclass(frozen=True)
class Score:
    """One design at one evaluation step: answers by seed, and the metrics that the step wrote, by seed."""

    design: str
    step: str
    stage: str
    answers: dict[int, Answers]
    metrics: dict[int, dict[str, Any]]

    @cached_property
    def interval(self) -> Interval:
        """Accuracy over seeds with its 95 % interval."""
        in_order = [self.answers[seed] for seed in sorted(self.answers)]
        return accuracy_interval(
            [answers.correct[np.argsort(answers.sample_ids)] for answers in in_order],
            groups=sources_of([np.sort(answers.sample_ids) for answers in in_order]),
        )

    @property
    def operator(self) -> str:
        """Which read-out of a camera for clips; empty for others."""
        return str(next(iter(self.metrics.values())).get("operator", ""))

    @property
    def mixed(self) -> bool:
        """Whether the networks learned from another read-out than they were asked about."""
        return next(iter(self.metrics.values())).get("trained_on") not in (None, self.operator)

    def mean(self, name: str) -> float | None:
        """Mean over seeds of a metric of the step, None where no seed has it."""
        values = [m[name] for m in self.metrics.values() if m.get(name) is not None]
        return float(np.mean(values)) if values else None


def scores(evidence: Evidence) -> list[Score]:
    """All evaluations, by step in the order of the protocol, then by design."""
    found: dict[tuple[str, str], Score] = {}
    for made in (made for type_ in EVALUATIONS for made in evidence.of(type_)):
        key = (made.instance.name, made.design)
        score = found.setdefault(key, Score(made.design, made.instance.name, made.row["metrics"]["stage"], {}, {}))
        seed = int(made.instance.seed or 0)
        with np.load(made.folder / "predictions.npz") as file:
            answers = Answers(file["label"], file["predicted"], file["sample_id"])
        if len(answers.labels) != made.row["metrics"]["n_test"]:
            raise RunFailed(f"{made.instance.key}: predictions.npz does not hold the items that the step counted")
        score.answers[seed], score.metrics[seed] = answers, made.row["metrics"]
    names, designs = list(evidence.protocol.steps), evidence.designs
    return sorted(found.values(), key=lambda score: (names.index(score.step), designs.index(score.design)))


def columns_of(found: Sequence[Score]) -> list[tuple[str, str, str]]:
    """(step, stage, heading) of every evaluation step; the heading names the step where two share a stage."""
    steps = list(dict.fromkeys((score.step, score.stage) for score in found))
    stages = [stage for _, stage in steps]
    return [
        (step, stage, STAGE_WORDS[stage] + (f" ({step})" if stages.count(stage) > 1 else "")) for step, stage in steps
    ]


def difference(after: Score, before: Score) -> tuple[Interval, int]:
    """Accuracy of `after` minus `before` on the seeds and items that both saw, and how many items that are.

    Raises RunFailed when they have no seed or no item in common.
    """
    first, second, shared = [], [], []
    for seed in sorted(after.answers.keys() & before.answers.keys()):
        a, b = after.answers[seed], before.answers[seed]
        both, in_a, in_b = np.intersect1d(a.sample_ids, b.sample_ids, assume_unique=True, return_indices=True)
        if len(in_a):
            first.append(a.correct[in_a])
            second.append(b.correct[in_b])
            shared.append(both)
    if not first:
        raise RunFailed(f"'{after.step}' and '{before.step}' of {after.design} have no test item in common")
    gap = paired_difference_interval(first, second, groups=sources_of(shared))
    return gap, min(len(values) for values in first)


def changes(found: Sequence[Score], design: str) -> dict[str, tuple[Interval, int]]:
    """What the rig took and fine-tuning gave back, by words, for one design; only what was evaluated."""
    own = {stage: next((s for s in found if s.design == design and s.stage == stage), None) for stage in STAGES}
    pairs = {
        "lost on the rig": ("captured", "simulated"),
        "change by fine-tuning": ("finetuned", "captured"),
        "left of the gap": ("finetuned", "simulated"),
    }
    result = {}
    for words, (after, before) in pairs.items():
        a, b = own[after], own[before]
        if a is not None and b is not None:
            result[words] = difference(a, b)
    return result


# The gap between simulated and captured frames


@dataclass(frozen=True)
class FramePairs:
    """The same test scenes, simulated and captured, of one design and seed.

    Frames are (n, h, w) in DN as the design reads them out, scenes (n, H, W) in 0..1.
    """

    design: str
    seed: int
    scenes: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    ideal: npt.NDArray[np.float32]
    noisy: npt.NDArray[np.float32]
    captured: npt.NDArray[np.float32] | None
    simulated_exposure_s: float
    captured_exposure_s: float | None


@dataclass(frozen=True)
class Gap:
    """How captured frames differ from noise-free simulated ones of the same scenes; all in DN over all pixels."""

    scenes: int
    seeds: int
    simulated_mean: float
    simulated_std: float
    captured_mean: float
    captured_std: float
    rms: float
    noise_rms: float
    """What noise alone would give: simulated with noise against without."""

    fitted_rms: float
    """What is left after the one gain and offset that bring captured frames nearest to simulated ones."""

    light_ratio: float
    """Mean signal above black per exposure time, captured to simulated."""


def frame_pairs(evidence: Evidence, design: str) -> Iterator[FramePairs]:
    """Simulate the test scenes that were captured, for every seed of a design; without captures, test scenes alone.

    Of several capture steps the first counts: frames less their closed mask, or of a mask that learned on, are another
    comparison.
    """
    captures = [made for made in evidence.of("capture") if made.design == design]
    if captures:
        for made in (made for made in captures if made.instance.name == captures[0].instance.name):
            reference: Reference = made.instance.step.mask  # type: ignore[attr-defined]
            yield _pair(evidence, evidence.maker(made, reference), reference.output, made)
        return
    for made in evidence.of("train"):
        if made.design == design:
            yield _pair(evidence, made, "mask", None)


def gap_of(pairs: Sequence[FramePairs], black_dn: float) -> Gap:
    """Compare frames of one design over its seeds. black_dn: level without light. Raises RunFailed without captures."""
    pairs = [pair for pair in pairs if pair.captured is not None]
    if not pairs:
        raise RunFailed("no captured frames to compare with")
    ideal = np.concatenate([pair.ideal for pair in pairs]).astype(np.float64)
    captured = np.concatenate([pair.captured for pair in pairs if pair.captured is not None]).astype(np.float64)
    noisy = np.concatenate([pair.noisy for pair in pairs])
    rates = [
        [(float(np.mean(frames)) - black_dn) / (exposure_s or np.nan) for frames, exposure_s in sides]
        for sides in (
            ((pair.captured, pair.captured_exposure_s), (pair.ideal, pair.simulated_exposure_s)) for pair in pairs
        )
    ]
    spread = ideal.std() * captured.std()
    correlation = float(((ideal - ideal.mean()) * (captured - captured.mean())).mean() / spread) if spread else 0.0
    return Gap(
        scenes=len(pairs[0].ideal),
        seeds=len({pair.seed for pair in pairs}),
        simulated_mean=float(ideal.mean()),
        simulated_std=float(ideal.std()),
        captured_mean=float(captured.mean()),
        captured_std=float(captured.std()),
        rms=_rms(captured - ideal),
        noise_rms=_rms(noisy - ideal),
        fitted_rms=float(ideal.std()) * float(np.sqrt(max(0.0, 1 - correlation**2))),
        light_ratio=float(np.mean([rig / twin for rig, twin in rates])),
    )


def one_per_class(labels: npt.NDArray[np.int64], wanted: int) -> list[int]:
    """Indices of the first item of each of `wanted` classes, spread over all classes that are there."""
    classes, first = np.unique(labels, return_index=True)
    return [int(first[index]) for index in spread(len(classes), wanted)]


def _pair(evidence: Evidence, maker: Made, output: str, capture: Made | None) -> FramePairs:
    import torch

    from protocols.capture.patterns import FramePatterns
    from protocols.captured import labelled_frames
    from protocols.keys import stream_seed
    from protocols.simulation import CHUNK, ExposureRule, Simulation
    from sim.noise import TorchDraws

    step = maker.instance.step
    if not hasattr(step, "fill"):
        raise RunFailed(f"step '{maker.instance.name}' does not say to which `fill` it exposes in simulation")
    rule = ExposureRule(step.fill, getattr(step, "exposure_s", "auto"))
    data, seed = evidence.data, int(maker.instance.seed or 0)
    frames, exposure_s = None, None
    if capture is None:
        rows = data.part(Split.TEST)
        rows = rows[spread(len(rows), COMPARED_FRAMES)]
    else:
        captured = labelled_frames(capture.path("frames"), data.class_names)
        test = captured.part(Split.TEST)
        test = test[spread(len(test), COMPARED_FRAMES)]
        if len(test) == 0:
            raise RunFailed("no test frames were captured")
        row_of = {int(sample): row for row, sample in enumerate(data.sample_ids)}
        rows = np.asarray([row_of[int(sample)] for sample in captured.sample_ids[test]])
        frames, exposure_s = captured.frames[test, 0], float(capture.row["metrics"]["exposure_s"])
    design = design_of(evidence, maker)
    simulation = Simulation(evidence.rig, rule, design=design)
    mask = torch.from_numpy(np.load(maker.path(output)))
    scenes = np.asarray(data.images[rows])
    shown = simulation.shown(torch.from_numpy(scenes))
    draws = TorchDraws(torch.Generator().manual_seed(stream_seed(seed, "report")))
    exposure = float(simulation.exposure_s(simulation.psf(mask)))

    def seen(draws: TorchDraws | None) -> npt.NDArray[np.float32]:
        taken = FramePatterns(design, seed)  # those of a capture, where there is one
        parts = iter(np.array_split(data.sample_ids[rows], range(CHUNK, len(rows), CHUNK)))
        patterns = (lambda n: torch.from_numpy(taken.of(next(parts)))) if design.dynamic else mask
        return _read_out(design, simulation.all_frames(shown, patterns, draws=draws))

    return FramePairs(
        maker.design,
        seed,
        scenes[:, 0],
        data.labels[rows],
        seen(None),
        seen(draws),
        None if frames is None else _read_out(design, torch.from_numpy(frames[:, None])),
        exposure,
        exposure_s,
    )


def design_of(evidence: Evidence, maker: Made) -> CameraDesign:
    """The design of the step that made a mask; one that draws its patterns as it was learned."""
    from labctl.steps import StepSetting
    from protocols.model_file import load_camera, new_design

    instance = maker.instance
    setting = StepSetting(evidence.protocol, evidence.rig, instance.name, instance.design, instance.seed)
    design = new_design(setting)
    return load_camera(maker.path("model"), setting).design if design.dynamic else design


def _read_out(design: CameraDesign, frames: Tensor) -> npt.NDArray[np.float32]:
    """(n, h, w) of frames (n, 1, h, w), as what answers gets them."""
    read: npt.NDArray[np.float32] = design.readout(frames).detach().numpy()[:, 0]
    return read


def _rms(values: npt.NDArray[Any]) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


# How numbers are written


def percent(interval: Interval) -> str:
    """`87.4 % [83.8, 91.0]`; without decimals where the interval is wide."""
    digits = _digits(interval)
    return f"{100 * interval.mean:.{digits}f} % [{100 * interval.low:.{digits}f}, {100 * interval.high:.{digits}f}]"


def short_percent(interval: Interval) -> str:
    """`87.4 %`, with the digits that the interval supports."""
    return f"{100 * interval.mean:.{_digits(interval)}f} %"


def points(interval: Interval) -> str:
    """`−11.8 [−15.1, −8.4]` in percentage points."""
    digits = _digits(interval)
    low, high = (_signed(100 * value, digits) for value in (interval.low, interval.high))
    return f"{_signed(100 * interval.mean, digits)} [{low}, {high}]"


def share(value: float | None) -> str:
    """A share of 1 as percent: one decimal, or two digits below one percent."""
    if value is None:
        return "–"
    return f"{100 * value:.1f} %" if value == 0 or value >= 0.01 else f"{100 * value:.2g} %"


def duration(seconds: float) -> str:
    """`11.9 s`, `4 min 05 s` or `2 h 03 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds >= 0.1 else f"{1000 * seconds:.0f} ms"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def ms(seconds: float) -> str:
    """`2.5 ms`."""
    return f"{1000 * seconds:.3g} ms"


def _digits(interval: Interval) -> int:
    return 1 if 100 * (interval.high - interval.low) <= WIDE_POINTS else 0


def _signed(value: float, digits: int) -> str:
    text = f"{value:+.{digits}f}"
    return f"{0:.{digits}f}" if float(text) == 0 else text.replace("-", "−")
