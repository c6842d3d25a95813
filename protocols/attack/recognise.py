"""`attack_recognise`: recognisers that were not there when the camera was made, trained on its frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from annotated_types import Ge, Gt, Le, Lt

from labctl.errors import BadInput, concerning
from labctl.references import OutputKind, Reference
from labctl.steps import Estimate, Source, Step, StepContext, StepResult, StepSetting
from protocols.attack.any_attacker import Attackers
from protocols.attack.attackers import Budget, Linear, PlainCnnAttacker, SmallResidualAttacker
from protocols.attack.targets import IDENTITY, target_of
from protocols.fit import check_captures, check_fit
from protocols.learning_from_captures import check_corrections
from protocols.measurement import Corrections
from protocols.scenes import load_scenes, scenes_of
from protocols.splits import Split

if TYPE_CHECKING:
    import numpy as np

    from protocols.attack.attackers import AttackerSettings
    from protocols.attack.control import Control
    from protocols.attack.frames import AttackedFrames
    from protocols.attack.recognisers import Labelled
    from protocols.attack.record import Attack
    from protocols.attack.targets import Target
    from protocols.data import ImageSet

SECONDS_PER_ITEM = 1.0e-3
"""Of one attacker, measured for 32x32 frames on one core; for estimates only."""


class AttackRecognise(Step):
    """Trains recognisers on coded frames whose labels the attacker knows, and asks them the test split.

    Every attacker is also trained and asked on the sharp scenes, and on as much of their middle as a frame is large:
    `must_reach` says how well it has to do there before its failure on frames means anything.
    """

    where: ClassVar[Literal["host", "child"]] = "child"
    outputs: ClassVar[Mapping[str, str]] = {"attack": "attack"}
    uses: ClassVar[frozenset[Source]] = frozenset({"data", "design", "model", "twin"})
    modules: ClassVar[tuple[str, ...]] = ("torch", "protocols.models", "sklearn.linear_model")

    type: Literal["attack_recognise"]

    model: Annotated[Reference, OutputKind("model")]
    """The trained camera to attack."""

    frames: Annotated[Reference, OutputKind("frames")] | None = None
    """Captured frames; without them the twin makes frames, as many as the attacker wants."""

    calibration: Annotated[Reference, OutputKind("calibration")] | None = None
    """By which captured frames are corrected first; without it they stay as they were measured."""

    corrections: Corrections = "all"
    """With `calibration`: these parts of `dark`, `flat`, `gain`, `registration`, or all that it has."""

    what: str = IDENTITY
    """What to find out: `identity`, the labels of the data, or another array of the data file with one label for each
    picture, such as `expression`."""

    attackers: Attackers = (
        Linear(type="linear"),
        SmallResidualAttacker(type="small-residual"),
        PlainCnnAttacker(type="plain-cnn"),
    )
    """Families that are all tried: of those of labctl, and of your own."""

    budget: Budget = Budget()

    shots: tuple[Annotated[int, Ge(1), Le(100_000)], ...] = ()
    """Also attackers who have only so many labelled frames of each class: `[1, 5]`."""

    least_per_class: Annotated[int, Ge(2), Le(100_000)] = 20
    """Values of an attribute with fewer training pictures are left out."""

    must_reach: Annotated[float, Gt(0), Lt(1)] = 0.5
    """On sharp pictures, an attacker has to come so far from always naming the most frequent class towards always being
    right. One that does not proves nothing."""

    def check(self, setting: StepSetting) -> None:
        """Mask, scene and rig must fit; there must be two classes to tell apart, and pictures to choose on."""
        check_fit(setting)
        with concerning(*setting.at("what")):
            if self.what != IDENTITY:
                setting.protocol.data.attribute(self.what)
        if self.frames is not None:
            check_captures(self.frames, "train", 2, setting)
            check_captures(self.frames, "test", 1, setting)
            if getattr(setting.protocol.steps[self.frames.step], "val", "all") in (0, 1):
                text = "attackers are chosen on the validation split; capture some of it (`val: all`)"
                raise BadInput(text, at=("steps", self.frames.step, "val"))
        elif self.calibration is not None:
            raise BadInput("corrects captured frames, and there are none; take it away", at=setting.at("calibration"))
        check_corrections(self.calibration, self.corrections, setting)

    def estimate(self, setting: StepSetting) -> Estimate:
        """Compute only. Looks at the data, so it is here that what is asked must have two values and a val split."""
        data = scenes_of(setting.protocol)
        with concerning(*setting.at("what")):
            target = target_of(setting.protocol, data, self.what, self.least_per_class)
        check_validation(data, target, setting)
        networks = sum(not isinstance(attacker, Linear) for attacker in self.attackers)
        items = self.budget.epochs * len(target.rows(data, Split.TRAIN)) * networks * (1 + len(self.shots))
        return Estimate(seconds=3 + 2 * items * SECONDS_PER_ITEM, disk_bytes=2**20)

    def run(self, context: StepContext) -> StepResult:
        """Attack with every family; attacks that are there already are kept."""
        from protocols.attack.frames import attacked_frames
        from protocols.attack.record import AttackFolder
        from protocols.training_loop import prepare_torch

        prepare_torch()
        setting = context.setting
        data = load_scenes(context)
        target = target_of(setting.protocol, data, self.what, self.least_per_class)
        if target.left_out:
            context.log(f"left out of {self.what}, with too few pictures: {', '.join(target.left_out)}")
        seen = attacked_frames(context, data, self.model, self.frames, self.calibration, self.corrections, self.budget)
        folder = AttackFolder(context.folder)
        efforts = [_Effort(attacker, shots) for shots in (None, *self.shots) for attacker in self.attackers]
        for number, effort in enumerate(efforts):
            if not folder.has(", ".join((self.what, effort.name, effort.knows, "frame", seen.stage))):
                attack = self._attack(context, data, target, seen, effort, (number, len(efforts)))
                folder.add(attack)
                context.log(_in_words(attack))
            context.stop_here(f"{number + 1} of {len(efforts)} attackers are done")
        proven = [attack for attack in folder if attack.proven]
        strongest = max(proven, key=lambda attack: attack.mean, default=None)
        metrics = {
            "what": self.what,
            "of": f"{seen.stage} frames",
            "attackers": len(efforts),
            "proven": len(proven),
            "strongest": None if strongest is None else strongest.attacker,
            "named_right": None if strongest is None else strongest.mean,
            "chance": next(iter(folder)).chance,
        }
        return StepResult({"attack": folder.finish()}, metrics)

    def _attack(
        self,
        context: StepContext,
        data: ImageSet,
        target: Target,
        seen: AttackedFrames,
        effort: _Effort,
        place: tuple[int, int],
    ) -> Attack:
        from protocols.attack.control import needed_of
        from protocols.attack.pulse import pulse_of
        from protocols.attack.recognisers import named_right, train_recogniser
        from protocols.attack.record import Attack
        from protocols.metrics import majority_baseline

        seed = int(context.setting.seed or 0)
        train, val, test = (seen.rows(target, split) for split in Split)
        train = effort.chosen(train, target, seed)
        field, centre = self._controls(context, data, target, effort, (train, val, test), seen.centre, place)
        pulse = pulse_of(context, effort.name, place)
        parts: list[Labelled] = [seen.labelled(rows, target) for rows in (train, val, test)]
        recogniser, done = train_recogniser(
            effort.attacker, self.budget, parts[0], parts[1], len(target.class_names), seed=seed, pulse=pulse
        )
        chance = majority_baseline(target.labels[train], target.labels[test])
        return Attack(
            goal=self.what,
            attacker=effort.name,
            knows=effort.knows,
            where="frame",
            stage=seen.stage,
            items=named_right(recogniser, parts[2]),
            sample_ids=data.sample_ids[test],
            chance=chance,
            control=field.right,
            control_chance=field.chance,
            needed=needed_of(self.must_reach, field.chance),
            converged=done.converged,
            facts={
                "epochs": done.epochs,
                "val_accuracy": done.val_accuracy,
                "chosen": done.settings,
                "train": len(train),
                "control_centre": float(centre.right.mean()),
                "control_converged": field.effort.converged,
            },
        )

    def _controls(
        self,
        context: StepContext,
        data: ImageSet,
        target: Target,
        effort: _Effort,
        rows: tuple[np.ndarray, np.ndarray, np.ndarray],
        smaller: tuple[int, int],
        place: tuple[int, int],
    ) -> tuple[Control, Control]:
        """On the whole scene, and on its centre."""
        from protocols.attack.control import CONTROLS, SharpTask, control_of
        from protocols.attack.pulse import pulse_of

        scene_px = (int(data.images.shape[-2]), int(data.images.shape[-1]))
        fingerprint = context.setting.protocol.data.fingerprint()
        folder = context.run_folder / "artifacts" / CONTROLS
        pulse = pulse_of(context, f"{effort.name}, control", place)
        field, centre = (
            control_of(
                folder,
                SharpTask(data, fingerprint, target, *rows, region),
                effort.attacker,
                self.budget,
                seed=int(context.setting.seed or 0),
                pulse=pulse,
            )
            for region in (scene_px, smaller)
        )
        return field, centre


@dataclass(frozen=True)
class _Effort:
    """An attacker and how many labelled pictures of each class it has; None: all."""

    attacker: AttackerSettings
    shots: int | None

    @property
    def name(self) -> str:
        return self.attacker.name

    @property
    def knows(self) -> str:
        return "all labels" if self.shots is None else f"{self.shots} labels of each class"

    def chosen(self, train: np.ndarray, target: Target, seed: int) -> np.ndarray:
        """The training rows whose labels the attacker has."""
        from protocols.balanced import balanced_order

        if self.shots is None:
            return train
        order = balanced_order(target.labels[train], seed=seed)
        return train[sorted(order[: self.shots * len(target.class_names)].tolist())]


def check_validation(data: ImageSet, target: Target, setting: StepSetting) -> None:
    """Raise BadInput where nothing is there to choose on."""
    if len(target.rows(data, Split.VAL)) < 2:
        raise BadInput("attackers are chosen on the validation split, and the data have none; give it a share")


def _in_words(attack: Attack) -> str:
    there = f"{100 * attack.reached:.1f} % on sharp pictures"
    if not attack.proven:
        there += f", under the {100 * attack.needed:.1f} % it has to reach: it proves nothing"
    ended = "" if attack.converged else "; its budget ended before it had converged"
    return (
        f"{attack.goal} by {attack.attacker}, {attack.knows}: {100 * attack.mean:.1f} % of frames "
        f"(chance {100 * attack.chance:.1f} %; {there}){ended}"
    )
