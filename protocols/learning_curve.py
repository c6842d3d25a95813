"""`learning_curve`: how accuracy grows with the number of captured frames that a classifier is fine-tuned on."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
from annotated_types import Ge, Le, MinLen
from pydantic import model_validator

from labctl.durable import write_json
from labctl.errors import BadInput, RunFailed
from labctl.steps import Estimate, Source, StepContext, StepResult, StepSetting
from protocols.fit import check_captures
from protocols.keys import stream_seed
from protocols.learning_from_captures import Captures, LearningFromCaptures, captures_of, part_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from protocols.model_file import TrainedCamera

CURVE_FILE, CURVE_PICTURE, POINT_FILE = "curve.json", "curve.png", "point.json"


class LearningCurve(LearningFromCaptures):
    """Fine-tunes from the same model on growing parts of a capture, several times each, and tests what comes of it.

    Parts are class-balanced; within one repeat a smaller part lies inside a larger one. The test split is read once, at
    the end; nothing is chosen by it. Writes `curve.json` and `curve.png`.
    """

    where: ClassVar[Literal["host", "child"]] = "child"
    outputs: ClassVar[Mapping[str, str]] = {"curve": "curve"}
    uses: ClassVar[frozenset[Source]] = frozenset({"design", "model"})
    modules: ClassVar[tuple[str, ...]] = ("torch", "lightning_fabric", "protocols.finetuning")

    type: Literal["learning_curve"]

    counts: Annotated[tuple[Annotated[int, Ge(2), Le(10_000_000)], ...], MinLen(1)] = (40, 120, 240)
    """Captured training frames to learn from."""

    repeats: Annotated[int, Ge(1), Le(100)] = 3
    """Fine-tunings for each count, each on another part (with `samples` the same) and in another order: they give the
    interval."""

    @model_validator(mode="after")
    def _counts_grow(self) -> Self:
        if list(self.counts) != sorted(set(self.counts)):
            raise ValueError(f"counts are {list(self.counts)}; give each once, from few to many")
        return self

    def check(self, setting: StepSetting) -> None:
        """There must be training frames for the largest count, and test frames."""
        super().check(setting)
        check_captures(self.frames, "train", max(self.counts), setting)
        check_captures(self.frames, "test", 1, setting)

    def estimate(self, setting: StepSetting) -> Estimate:
        """Compute only."""
        fits = self.repeats * sum(self.epochs * (0.05 + count / 2000) for count in self.counts)
        return Estimate(seconds=3 + fits, disk_bytes=2**20)

    def run(self, context: StepContext) -> StepResult:
        """Fine-tune and test; a fine-tuning that was finished before an interruption is not done again."""
        from protocols import training_loop as loop
        from protocols.accelerator import open_fabric
        from protocols.finetuning import right_answers
        from protocols.metrics import accuracy_interval, majority_baseline
        from protocols.model_file import load_camera

        loop.prepare_torch()
        camera = load_camera(context.input(self.model), context.setting)
        fabric = open_fabric(self.device, self.precision)
        captures = captures_of(self, context, camera, fabric.device)
        if not len(captures.test):
            raise RunFailed("no test frames were captured; set `test: all` in the capture step")
        labels = captures.labels.cpu().numpy()
        right = {
            (count, repeat): self._point(context, fabric, camera, captures, count, repeat)
            for count in self._counts(captures, context)
            for repeat in range(self.repeats)
        }
        start = accuracy_interval([right_answers(camera.classifier.to(fabric.device), captures)])
        curve = {
            "design": context.setting.design,
            "seed": context.setting.seed,
            "n_test": len(captures.test),
            "captured": len(captures.train),
            "corrections": list(captures.measurement.parts),
            "closed_mask": captures.closed,
            "majority": majority_baseline(labels[captures.train], labels[captures.test]),
            "start": {"accuracy": start.mean, "low": start.low, "high": start.high},
            "points": [
                point_of(count, [right[count, repeat] for repeat in range(self.repeats)])
                for count in sorted({count for count, _ in right})
            ],
            "interval": INTERVAL_IN_WORDS,
        }
        write_json(context.folder / CURVE_FILE, curve)
        from protocols.calibrate.bench import save_figure

        save_figure(draw_curve(curve), context.folder / CURVE_PICTURE)
        return StepResult({"curve": context.folder / CURVE_FILE}, _metrics(curve))

    def _counts(self, captures: Captures, context: StepContext) -> list[int]:
        there = len(captures.train)
        if max(self.counts) > there:
            context.log(f"{there} training frames were captured: larger counts than that are left out")
        counts = [count for count in self.counts if count <= there]
        if not counts:
            raise BadInput(f"{there} training frames were captured, the least count is {min(self.counts)}; lower it")
        return counts

    def _point(
        self, context: StepContext, fabric: Any, camera: TrainedCamera, captures: Captures, count: int, repeat: int
    ) -> npt.NDArray[np.bool_]:
        """(n_test,) which answers are right after fine-tuning on part `repeat` of `count` frames."""
        from protocols import training_loop as loop
        from protocols.finetuning import fine_tune, right_answers

        folder = context.folder / f"frames{count}-repeat{repeat}"
        done = folder / POINT_FILE
        if done.exists():
            return np.array(json.loads(done.read_text())["right"], dtype=np.bool_)
        folder.mkdir(exist_ok=True)
        base = int(context.setting.seed or 0)
        train = part_of(self, context, captures, count, seed=stream_seed(base, "part", repeat))
        classifier = copy.deepcopy(camera.classifier).to(fabric.device)
        own = replace(context, folder=folder)
        seed = stream_seed(base, "learning curve", count, repeat)
        final = fine_tune(self, own, fabric, classifier, captures, train, seed=seed)
        right = right_answers(classifier, captures)
        write_json(done, {"right": [bool(one) for one in right], **final})
        loop.drop_checkpoint(own)
        context.log(f"{count} frames, part {repeat + 1} of {self.repeats}: done")
        return np.asarray(right, dtype=np.bool_)


INTERVAL_IN_WORDS = (
    "95 % bootstrap over test items and over repeats (parts of the captures, orders of training), each resampled; with "
    "few repeats somewhat narrow; it leaves out other benches, other masks and other start models"
)


@dataclass(frozen=True)
class _Spread:
    low: float
    high: float


def point_of(count: int, right: list[npt.NDArray[np.bool_]]) -> dict[str, Any]:
    """One point of the curve from the answers of its repeats, (n_test,) bool each."""
    answers = np.stack(right).astype(np.float64)
    spread = _spread(answers)
    each = answers.mean(axis=1)
    return {
        "count": count,
        "accuracy": float(each.mean()),
        "low": spread.low,
        "high": spread.high,
        "repeats": [float(accuracy) for accuracy in each],
    }


def draw_curve(curve: Mapping[str, Any]) -> Figure:
    """Accuracy against captured frames, with start and majority as lines."""
    from labctl.frames.figure_style import INK, SOFT, styled

    with styled():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6.0, 3.6), layout="constrained")
        axes = figure.subplots()
        points = curve["points"]
        counts = [point["count"] for point in points]
        accuracy = np.array([point["accuracy"] for point in points])
        errors = np.abs(np.array([[point["low"], point["high"]] for point in points]).T - accuracy)
        start = curve["start"]
        axes.axhspan(100 * start["low"], 100 * start["high"], color=SOFT, alpha=0.12, linewidth=0)
        axes.axhline(100 * start["accuracy"], color=SOFT, label="before fine-tuning")
        axes.axhline(100 * curve["majority"], color=SOFT, linestyle="--", label="majority class")
        axes.errorbar(
            counts, 100 * accuracy, yerr=100 * errors, color="#0072B2", marker="o", capsize=3, label="fine-tuned, mean"
        )
        for number, point in enumerate(points):
            own = 100 * np.array(point["repeats"])
            beside = point["count"] * 1.05 ** (1 + np.arange(len(own)))
            label = None if number else "each repeat"
            axes.plot(beside, own, ".", color=INK, alpha=0.5, ms=4, zorder=3, label=label)
        axes.set_xscale("log")
        axes.set_xticks(counts, [str(count) for count in counts])
        axes.minorticks_off()
        axes.set_xlim(counts[0] / 1.25, counts[-1] * 1.05 ** (1 + len(points[-1]["repeats"])) * 1.2)
        axes.set_ylim(0, 100)
        axes.set(xlabel="captured training frames", ylabel="accuracy on the test split (%)")
        axes.set_title(f"{curve['n_test']} test frames; bars: 95 % over test items and repeats")
        axes.legend(loc="best", frameon=True, facecolor="white", edgecolor="none", framealpha=1)
    return figure


def _spread(answers: npt.NDArray[np.float64], resamples: int = 2000) -> _Spread:
    """95 % percentile interval of the mean of (repeats, items), both resampled: models fail together on hard items."""
    repeats, items = answers.shape
    rng = np.random.default_rng(0)
    means = np.empty(resamples)
    for number in range(resamples):
        chosen = answers[rng.integers(repeats, size=repeats)]
        means[number] = chosen[:, rng.integers(items, size=items)].mean()
    low, high = np.quantile(means, [0.025, 0.975])
    return _Spread(float(low), float(high))


def _metrics(curve: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "start_accuracy": curve["start"]["accuracy"],
        "majority": curve["majority"],
        "n_test": curve["n_test"],
        **{f"accuracy_{point['count']}": point["accuracy"] for point in curve["points"]},
    }
