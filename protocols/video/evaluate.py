"""`evaluate_video`: what is done in a clip, told by networks that were not there when the camera was made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from annotated_types import MinLen
from pydantic import AfterValidator

from labctl.durable import write_json
from labctl.errors import BadInput, RunFailed
from labctl.steps import Estimate, StepContext, StepResult, StepSetting
from protocols.evaluate import EVALUATION_FILE, write_comparison
from protocols.splits import Split
from protocols.video.budget import ClipBudget
from protocols.video.encodings import Encodings, OnEncodedClips, check_networks
from protocols.video.networks import ActionNetwork, Small3d
from protocols.video.readers import each_once, file_name_of, fingerprint_of, name_of, say_weights

if TYPE_CHECKING:
    from protocols.attack.recognisers import Effort
    from protocols.video.recognising import ClipRecogniser, LabelledClips, Named

SECONDS_PER_CLIP = 2.5e-3
"""Of one network and epoch, measured for 16 frames of 32x32 on one core; for estimates only."""

PREDICTIONS = "predictions.npz"


class EvaluateVideo(OnEncodedClips):
    """Trains fresh action networks on the encoded training clips and asks them the test split once, clip by clip.

    Writes `evaluation.json`, `predictions.npz` (label, predicted, sample_id), `shown.npz` for the report, and renews
    `artifacts/comparison.csv`. The accuracy is that of the first network; all stand in `by_network`.
    """

    outputs: ClassVar[Mapping[str, str]] = {"evaluation": "evaluation"}

    type: Literal["evaluate_video"]

    stage: Literal["simulated", "captured", "finetuned"] = "simulated"
    """How the row is called in tables."""

    trained_on: Literal["soft", "hard"] | None = None
    """Networks learn from simulated clips of this read-out and are asked about that of `operator`. None: from clips
    such as they are asked about, captured ones where there are `frames`."""

    finetune: ClipBudget | None = None
    """With `frames` and `trained_on`: the networks learn on from captured training clips."""

    networks: Annotated[tuple[ActionNetwork, ...], MinLen(1), AfterValidator(each_once)] = (Small3d(),)
    """The first one gives the accuracy. Others are action networks that the camera has never met."""

    budget: ClipBudget = ClipBudget()

    def check(self, setting: StepSetting) -> None:
        """See `OnEncodedClips`; and the stage must tell what is done."""
        super().check(setting)
        if self.stage == "simulated" and self.frames is not None:
            raise BadInput("a simulated stage has no captured frames; take `frames` away", at=setting.at("frames"))
        if self.stage != "simulated" and self.frames is None:
            text = f"'{self.stage}' needs captured frames; add `frames: ${{steps.NAME.frames}}`"
            raise BadInput(text, at=setting.at("stage"))
        if self.finetune is not None and (self.frames is None or self.trained_on is None):
            text = "learns on from captured clips what was trained on simulated ones; add `frames` and `trained_on`"
            raise BadInput(text, at=setting.at("finetune"))
        check_networks(self.networks, setting)

    def fingerprint(self) -> str:
        """See `Step.fingerprint`: what the weights hold that networks start from."""
        return fingerprint_of(self.networks)

    def estimate(self, setting: StepSetting) -> Estimate:
        """Compute only."""
        clips = len(setting.protocol.data.labels()[0])
        epochs = self.budget.epochs + (self.finetune.epochs if self.finetune else 0)
        return Estimate(seconds=3 + SECONDS_PER_CLIP * clips * epochs * len(self.networks), disk_bytes=2**20)

    def run(self, context: StepContext) -> StepResult:
        """Train and test. A network that is trained already is kept."""
        from protocols.metrics import accuracy_interval, majority_baseline
        from protocols.training_loop import prepare_torch
        from protocols.video.differences import operators_differ
        from protocols.video.shown import keep_shown

        prepare_torch()
        seen = Encodings(self, context)
        test = seen.labelled(Split.TEST, "action")
        if len(test) == 0:
            raise RunFailed("no test clips were captured whole; set `test: all` in the capture step")
        answers: dict[str, Named] = {}
        efforts: dict[str, Effort] = {}
        for number, network in enumerate(self.networks):
            name = name_of(network)
            recogniser, efforts[name] = self._trained(seen, network, (number, len(self.networks)))
            answers[name] = recogniser.named(test)
            context.log(f"{name}: {100 * answers[name].clip.mean():.1f} % of test clips")
            context.stop_here(f"{number + 1} of {len(self.networks)} networks are trained")
        first = name_of(self.networks[0])
        interval = accuracy_interval([answers[first].clip])
        labels = test.labels.numpy()
        metrics: dict[str, Any] = {
            "stage": self.stage,
            "operator": self.operator,
            "trained_on": self.trained_on,
            "accuracy": interval.mean,
            "accuracy_low": interval.low,
            "accuracy_high": interval.high,
            "majority": majority_baseline(seen.labelled(Split.TRAIN, "action").labels.numpy(), labels),
            "chance": 1 / len(seen.data.action_names),
            "n_test": len(labels),
            "network": first,
            "converged": all(effort.converged for effort in efforts.values()),
            **operators_differ(seen),
        }
        by_network = {name: _told(answers[name], efforts[name]) for name in answers}
        for name, told in by_network.items():
            metrics[f"accuracy/{name}"] = told["accuracy"]
        np.savez_compressed(
            context.folder / PREDICTIONS,
            label=labels,
            predicted=answers[first].predicted,
            sample_id=seen.of(Split.TEST).clip_ids,
            **{f"predicted_by_{name}": named.predicted for name, named in answers.items()},  # type: ignore[arg-type]
        )
        keep_shown(seen)
        setting = context.setting
        row = {"design": setting.design, "rig": setting.rig.name, "step": setting.name, "seed": setting.seed, **metrics,
               "by_network": by_network, "cost": _cost(seen)}  # fmt: skip
        write_json(context.folder / EVALUATION_FILE, row)
        write_comparison(context.run_folder / "artifacts")
        return StepResult({"evaluation": context.folder / EVALUATION_FILE}, metrics)

    def _trained(
        self, seen: Encodings, network: ActionNetwork, place: tuple[int, int]
    ) -> tuple[ClipRecogniser, Effort]:
        from protocols.attack.pulse import pulse_of
        from protocols.video.recognising import (
            learn_on,
            loss_of,
            store_recogniser,
            stored_recogniser,
            train_clip_recogniser,
        )

        def part(split: Split, *, simulated: bool) -> LabelledClips:
            operator = self.trained_on if simulated else None
            return seen.labelled(split, "action", operator, simulated=simulated)

        classes, in_simulation = len(seen.data.action_names), self.trained_on is not None
        train, val = (part(split, simulated=in_simulation) for split in (Split.TRAIN, Split.VAL))
        path = seen.context.folder / f"{file_name_of(network)}.pt"
        pulse = pulse_of(seen.context, name_of(network), place)
        if path.exists():
            recogniser, effort = stored_recogniser(path, network, tuple(train.clips.shape[1:]), classes)
        else:
            say_weights(seen.context, network, train.clips.shape[1:], classes)
            recogniser, effort = train_clip_recogniser(
                network, self.budget, train, val, classes, seed=seen.seed, pulse=pulse
            )
            store_recogniser(path, recogniser, effort)
        if self.finetune is None:
            return recogniser, effort
        train, val = (part(split, simulated=False) for split in (Split.TRAIN, Split.VAL))
        to_beat = loss_of(recogniser, val)
        return recogniser, learn_on(recogniser, self.finetune, train, val, seed=seen.seed, pulse=pulse, to_beat=to_beat)


def _told(named: Named, effort: Effort) -> dict[str, Any]:
    from protocols.metrics import accuracy_interval

    interval = accuracy_interval([named.clip])
    return {
        "accuracy": interval.mean, "accuracy_low": interval.low, "accuracy_high": interval.high,
        "epochs": effort.epochs, "converged": effort.converged, "val_accuracy": effort.val_accuracy,
    }  # fmt: skip


def _cost(seen: Encodings) -> dict[str, int]:
    """What the encoder costs for one clip; see `sim.designs.video.cost.Cost`."""
    from dataclasses import asdict

    from protocols.video.encodings import light_shape
    from sim.designs.video.cost import cost_of

    return asdict(cost_of(seen.camera.design, (seen.data.frames, *light_shape(seen))))
