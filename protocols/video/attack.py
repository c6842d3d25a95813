"""`attack_video`: who is it? Attackers that were not there when the camera was made, trained on its encoded clips."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from annotated_types import Gt, Lt, MinLen
from pydantic import AfterValidator

from labctl.errors import BadInput, RunFailed
from labctl.steps import Estimate, StepContext, StepResult, StepSetting
from protocols.attack.audit import ACTOR
from protocols.attack.record import name_of as attack_name
from protocols.splits import Split, some_of
from protocols.video.budget import ClipBudget
from protocols.video.encodings import (
    Encodings,
    OnEncodedClips,
    check_networks,
    check_networks_of_scenes,
    light_shape,
    operator_of,
)
from protocols.video.networks import AttackerNetwork, Small3d, SmallFrame
from protocols.video.readers import each_once, fingerprint_of, name_of, say_weights

if TYPE_CHECKING:
    from protocols.attack.recognisers import Effort
    from protocols.attack.record import Attack, AttackFolder, Where
    from protocols.splits import IntArray
    from protocols.video.control import ClipControl
    from protocols.video.recognising import LabelledClips, Named

SECONDS_PER_CLIP = 2.5e-3
"""Of one attacker and epoch, measured for 16 frames of 32x32 on one core; for estimates only."""

Attackers = Annotated[tuple[AttackerNetwork, ...], AfterValidator(each_once)]
Knows = Literal["all labels", "all labels and the read-out"]


class AttackVideo(OnEncodedClips):
    """Trains attackers to name the actor on encoded clips whose actors they know, and asks them the test split.

    A network of single frames is scored twice: by the mean over all frames, as the authors do, and by its vote over
    each clip. One of clips answers once for each. Every attacker also has to win on the undegraded clips, with the same
    effort: `must_reach` says how well.
    """

    outputs: ClassVar[Mapping[str, str]] = {"attack": "attack"}

    type: Literal["attack_video"]

    attackers: Annotated[Attackers, MinLen(1)] = (Small3d(), SmallFrame())
    """Families that are all tried; the strongest counts."""

    told: Attackers = (Small3d(),)
    """These also attack while they know the read-out: its steps are turned back to the middle of their intervals, and
    differences are summed up over time. Left out where the read-out is not of each pixel alone."""

    budget: ClipBudget = ClipBudget()

    must_reach: Annotated[float, Gt(0), Lt(1)] = 0.5
    """On undegraded clips, an attacker has to come so far from always naming the most frequent actor towards always
    being right. One that does not proves nothing."""

    def check(self, setting: StepSetting) -> None:
        """See `OnEncodedClips`; and all attackers must fit."""
        super().check(setting)
        check_networks((*self.attackers, *self.told), setting)
        check_networks_of_scenes(self.attackers, setting)

    def fingerprint(self) -> str:
        """See `Step.fingerprint`: what the weights hold that attackers start from."""
        return fingerprint_of((*self.attackers, *self.told))

    def estimate(self, setting: StepSetting) -> Estimate:
        """Compute only. Reads the labels, so it is here that there must be actors to tell apart."""
        actors = setting.protocol.data.labels()[1]
        if len(set(actors.tolist())) < 2:
            raise BadInput("all clips show the same actor, so there is nobody to tell apart", at=("data",))
        networks = len(self.attackers) + len(self.told)
        seconds = 2 * SECONDS_PER_CLIP * len(actors) * self.budget.epochs * networks
        return Estimate(seconds=3 + seconds, disk_bytes=2**20)

    def run(self, context: StepContext) -> StepResult:
        """Attack with every family; attacks that are there already are kept."""
        from protocols.attack.record import AttackFolder
        from protocols.training_loop import prepare_torch

        prepare_torch()
        seen, folder = Encodings(self, context), AttackFolder(context.folder)
        check_actors(seen)
        efforts = [_Attempt(network, "all labels") for network in self.attackers]
        if self.told and self._can_be_told(seen):
            efforts += [_Attempt(network, "all labels and the read-out") for network in self.told]
        for number, attempt in enumerate(efforts):
            if not all(folder.has(attempt.record(where, seen)) for where in attempt.judged):
                self._attack(seen, folder, attempt, (number, len(efforts)))
            context.stop_here(f"{number + 1} of {len(efforts)} attackers are done")
        return StepResult({"attack": folder.finish()}, told_of(folder, seen))

    def _can_be_told(self, seen: Encodings) -> bool:
        from protocols.video.transfer import reads_pixel_by_pixel, transfer_curve

        design, light = seen.camera.design, light_shape(seen)
        operator = operator_of(design, self.operator)
        if not reads_pixel_by_pixel(design, operator, light):
            seen.context.log("told: left out, since the read-out is not of each pixel alone")
            return False
        if not transfer_curve(design, operator, light).monotonic:
            seen.context.log("told: left out, since more light does not always give more output")
            return False
        return True

    def _attack(self, seen: Encodings, folder: AttackFolder, attempt: _Attempt, place: tuple[int, int]) -> None:
        from protocols.attack.control import CONTROLS
        from protocols.attack.pulse import pulse_of
        from protocols.video.control import clip_control
        from protocols.video.recognising import train_clip_recogniser

        context = seen.context
        control = clip_control(
            context.run_folder / "artifacts" / CONTROLS,
            sharp_clips(seen),
            attempt.network,
            self.budget,
            seed=seen.seed,
            pulse=pulse_of(context, f"{attempt.name}, control", place),
        )
        train, val, test = (self._clips(seen, split, attempt.knows) for split in Split)
        say_weights(context, attempt.network, train.clips.shape[1:], len(seen.data.actor_names))
        recogniser, effort = train_clip_recogniser(
            attempt.network,
            self.budget,
            train,
            val,
            len(seen.data.actor_names),
            seed=seen.seed,
            pulse=pulse_of(context, attempt.name, place),
        )
        named = recogniser.named(test)
        for where in attempt.judged:
            attack = self._record(seen, attempt, where, named, control, effort)
            folder.add(attack)
            context.log(in_words(attack))

    def _clips(self, seen: Encodings, split: Split, knows: Knows) -> LabelledClips:
        from protocols.video.recognising import LabelledClips
        from protocols.video.transfer import transfer_curve, undone

        part = seen.labelled(split, "actor")
        if knows == "all labels":
            return part
        design = seen.camera.design
        curve = transfer_curve(design, operator_of(design, self.operator), light_shape(seen))
        return LabelledClips(undone(part.clips, curve), part.labels)

    def _record(
        self,
        seen: Encodings,
        attempt: _Attempt,
        where: Where,
        named: Named,
        control: ClipControl,
        effort: Effort,
    ) -> Attack:
        from protocols.attack.control import needed_of
        from protocols.attack.record import Attack
        from protocols.metrics import majority_baseline

        train, test = (seen.of(split).actor.numpy() for split in (Split.TRAIN, Split.TEST))
        return Attack(
            goal=ACTOR,
            attacker=attempt.name,
            knows=attempt.knows,
            where=where,
            stage=seen.stage,
            items=_scored(named, where),
            sample_ids=seen.of(Split.TEST).clip_ids,
            chance=majority_baseline(train, test),
            control=_scored(control.named, where),
            control_chance=control.chance,
            needed=needed_of(self.must_reach, control.chance),
            converged=effort.converged,
            operator=self.operator,
            facts={
                "epochs": effort.epochs,
                "val_accuracy": effort.val_accuracy,
                "train": len(train),
                "reads": attempt.network.reads,
                "uniform": 1 / len(seen.data.actor_names),
                "control_converged": control.effort.converged,
            },
        )


@dataclass(frozen=True)
class _Attempt:
    """A network, and what it is told."""

    network: Any
    knows: Knows

    @property
    def name(self) -> str:
        return name_of(self.network)

    @property
    def judged(self) -> tuple[Where, ...]:
        return ("frame", "clip") if self.network.reads == "frame" else ("clip",)

    def record(self, where: Where, seen: Encodings) -> str:
        """`Attack.name` of what it will get."""
        return attack_name(ACTOR, self.name, self.knows, where, seen.stage, seen.step.operator)


def sharp_clips(seen: Encodings, first: int = 0) -> Any:
    """The undegraded clips of which there are encoded ones; see `SharpClips`."""
    from protocols.video.control import SharpClips

    rows: dict[Split, IntArray] = {split: seen.rows(split) for split in Split}
    return SharpClips(seen.data, seen.context.setting.protocol.data.fingerprint(), rows, first)


def check_actors(seen: Encodings) -> None:
    """Raise where nothing can be learned or judged: no test clip, too few to choose on, actors that nobody has seen."""
    parts = {split: set(seen.of(split).actor.tolist()) for split in Split}
    if not parts[Split.TEST]:
        raise RunFailed("no test clips were captured whole; set `test: all` in the capture step")
    if len(seen.of(Split.VAL).actor) < 2:
        raise BadInput(
            "attackers are chosen on the validation split, and there are fewer than two clips in it; give it a share"
        )
    unknown = sorted(parts[Split.TEST] - parts[Split.TRAIN])
    if unknown:
        names = [seen.data.actor_names[actor] for actor in unknown]
        raise BadInput(
            f"{len(names)} actors are in test clips and in no training clip ({some_of(names)}), so no attacker can "
            "learn to name them; use a split of the clips of each actor"
        )


def told_of(folder: AttackFolder, seen: Encodings) -> dict[str, Any]:
    """The strongest attack of a step that proves something, beside the authors' score, as metrics."""
    attacks = [attack for attack in folder if attack.goal == ACTOR]
    proven = [attack for attack in attacks if attack.proven and attack.counts]
    best = max(proven, key=lambda attack: attack.mean, default=None)
    by_frame = [attack.mean for attack in proven if attack.where == "frame"]
    return {
        "of": f"{seen.stage} frames, {seen.step.operator} read-out",
        "attackers": len(attacks),
        "proven": len(proven),
        "strongest": None if best is None else f"{best.attacker}, {best.knows}, by {best.where}",
        "named_right": None if best is None else best.mean,
        "named_right_frame_by_frame": max(by_frame, default=None),
        "chance": attacks[0].chance,
        "uniform": 1 / len(seen.data.actor_names),
    }


def in_words(attack: Attack) -> str:
    """One line for the log."""
    there = f"{100 * attack.reached:.1f} % on undegraded clips"
    if not attack.proven:
        there += f", under the {100 * attack.needed:.1f} % it has to reach: it proves nothing"
    ended = "" if attack.converged else "; its budget ended before it had converged"
    return (
        f"{attack.goal} by {attack.attacker}, {attack.knows}: {100 * attack.mean:.1f} % of {attack.where}s "
        f"(chance {100 * attack.chance:.1f} %; {there}){ended}"
    )


def _scored(named: Named, where: Where) -> Any:
    if where == "frame":
        assert named.frames is not None
        return named.frames
    return named.clip
