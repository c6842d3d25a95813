"""`reconstruct_video`: clips from encoded clips, judged by likeness, where something moves, and by who can be named."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from annotated_types import Gt, Lt, MinLen
from pydantic import AfterValidator

from labctl.durable import write_whole
from labctl.steps import Estimate, StepContext, StepResult, StepSetting
from protocols.attack.record import name_of as attack_name
from protocols.splits import Split
from protocols.video.attack import check_actors, sharp_clips
from protocols.video.budget import ClipBudget
from protocols.video.encodings import Encodings, OnEncodedClips, check_networks_of_scenes
from protocols.video.networks import AttackerNetwork, SmallFrame, Unet3d
from protocols.video.readers import each_once, fingerprint_of, name_of, say_weights
from protocols.video.shown import CLIPS, one_of_each

if TYPE_CHECKING:
    from torch import Tensor

    from protocols.attack.recognisers import Effort
    from protocols.attack.record import Attack, AttackFolder, Where
    from protocols.video.restoring import ClipPairs, ClipRestorer

SECONDS_PER_CLIP = 3.0e-2
"""Of the U-Net and one epoch, measured for 16 frames of 32x32 on one core; for estimates only."""

EXAMPLES = "restored.npz"
KNOWS = "all training pairs"
Judge = Literal["undegraded clips", "reconstructions"]


class ReconstructVideo(OnEncodedClips):
    """Trains a 3D U-Net on pairs of encoded and original clips and lets it restore the test split.

    Judged by SSIM and PSNR of whole clips, by PSNR of the foreground alone (pixels that ever differ from the static
    background of their clip by more than 5 % of white), each beside what the mean training picture gets, and by
    whether the actor can be named. Control: the same U-Net with the same effort on the undegraded clips.
    """

    outputs: ClassVar[Mapping[str, str]] = {"attack": "attack"}

    type: Literal["reconstruct_video"]

    network: Unet3d = Unet3d()

    budget: ClipBudget = ClipBudget(epochs=12, first_cycle=4, batch=8)
    """Of the U-Net. Its clips are not shifted."""

    identifiers: Annotated[tuple[AttackerNetwork, ...], MinLen(1), AfterValidator(each_once)] = (SmallFrame(),)
    """Who looks for the actor in what was restored."""

    learned_from: Annotated[tuple[Judge, ...], MinLen(1)] = ("undegraded clips",)
    """What identifiers learned from: `undegraded clips`, `reconstructions` of the training clips."""

    identifier_budget: ClipBudget = ClipBudget()

    must_resemble: Annotated[float, Gt(0), Lt(1)] = 0.8
    """SSIM that the U-Net has to reach on undegraded clips for its failure to mean anything."""

    must_reach: Annotated[float, Gt(0), Lt(1)] = 0.5
    """Of identifiers, on undegraded clips: how far from always naming the most frequent actor towards always right."""

    def check(self, setting: StepSetting) -> None:
        """See `OnEncodedClips`; and all identifiers must fit."""
        super().check(setting)
        check_networks_of_scenes(self.identifiers, setting)

    def fingerprint(self) -> str:
        """See `Step.fingerprint`: what the weights hold that identifiers start from."""
        return fingerprint_of(self.identifiers)

    def estimate(self, setting: StepSetting) -> Estimate:
        """Compute only."""
        clips = len(setting.protocol.data.labels()[1])
        seconds = 2 * SECONDS_PER_CLIP * self.budget.epochs * clips
        seconds += 2.5e-3 * clips * self.identifier_budget.epochs * len(self.identifiers) * len(self.learned_from)
        return Estimate(seconds=3 + seconds, disk_bytes=4 * 2**20)

    def run(self, context: StepContext) -> StepResult:
        """Restore and judge; what is trained or judged already is kept."""
        from protocols.attack.record import AttackFolder
        from protocols.training_loop import prepare_torch

        prepare_torch()
        seen, folder = Encodings(self, context), AttackFolder(context.folder)
        check_actors(seen)
        pairs = {split: _pairs(seen, split) for split in Split}
        restorer, effort = self._restorer(seen, pairs)
        made = restorer.restored(pairs[Split.TEST].encoded)
        self._judge_likeness(seen, folder, made, pairs, effort)
        _keep_examples(seen, pairs[Split.TEST], made)
        context.stop_here("clips are restored and judged by likeness")
        for number, identifier in enumerate(self.identifiers):
            for judge in self.learned_from:
                self._judge_names(seen, folder, restorer, pairs, made, effort, identifier, judge, number)
        return StepResult({"attack": folder.finish()}, _metrics(folder, seen))

    def _restorer(self, seen: Encodings, pairs: Mapping[Split, ClipPairs]) -> tuple[ClipRestorer, Effort]:
        from protocols.attack.pulse import pulse_of
        from protocols.video.restoring import store_restorer, stored_restorer, train_restorer

        path, train = seen.context.folder / "restorer.pt", pairs[Split.TRAIN]
        network = _built(self.network, train, seen.seed)
        if path.exists():
            return stored_restorer(path, network, train)
        pulse = pulse_of(seen.context, "U-Net", (0, 1))
        restorer, effort = train_restorer(network, self.budget, train, pairs[Split.VAL], seed=seen.seed, pulse=pulse)
        store_restorer(path, restorer, effort)
        return restorer, effort

    def _judge_likeness(
        self,
        seen: Encodings,
        folder: AttackFolder,
        made: Tensor,
        pairs: Mapping[Split, ClipPairs],
        effort: Effort,
    ) -> None:
        from protocols.video.likeness import MOVES, clip_psnr, clip_ssim, foreground
        from protocols.video.restoring import mean_picture

        truth, control = pairs[Split.TEST].truth, self._control(seen, pairs)
        nothing = mean_picture(pairs[Split.TRAIN].truth).expand_as(truth)
        moving = foreground(truth)
        some = moving.flatten(1).any(1).numpy()
        ids = seen.of(Split.TEST).clip_ids
        share = float(moving.double().mean())
        wheres: list[tuple[str, Where, Any, Any, Any]] = [
            ("ssim", "clip", clip_ssim(made, truth), clip_ssim(nothing, truth), ids),
            ("psnr_db", "clip", clip_psnr(made, truth), clip_psnr(nothing, truth), ids),
        ]
        if some.any():
            gets, blind = (clip_psnr(clips, truth, moving)[some] for clips in (made, nothing))
            wheres.append(("psnr_db", "foreground", gets, blind, ids[some]))
        for goal, where, items, blind, sample_ids in wheres:
            if folder.has(attack_name(goal, name_of(self.network), KNOWS, where, seen.stage, self.operator)):
                continue
            folder.add(
                _attack(
                    seen,
                    goal=goal,
                    attacker=name_of(self.network),
                    where=where,
                    items=items,
                    sample_ids=sample_ids,
                    chance=float(blind.mean()),
                    control=control,
                    control_chance=0.0,
                    needed=self.must_resemble,
                    converged=effort.converged,
                    facts={"gain": float((items - blind).mean()), "moves_by_more_than": MOVES, "moving_share": share},
                )
            )
            gain = float((items - blind).mean())
            seen.context.log(f"{goal} of {where}: {items.mean():.2f}, {gain:+.2f} above the mean training picture")

    def _control(self, seen: Encodings, pairs: Mapping[Split, ClipPairs]) -> Any:
        """(n,) SSIM of what the same U-Net makes of undegraded test clips."""
        import hashlib

        from protocols.attack.control import CONTROLS
        from protocols.attack.pulse import pulse_of
        from protocols.video.likeness import clip_ssim
        from protocols.video.restoring import ClipPairs, train_restorer

        task = sharp_clips(seen, seen.camera.design.span - 1)
        # The key of a task names the settings of whoever learns: here those of the U-Net.
        key = hashlib.sha256(f"restore {task.key(self.network, self.budget, seen.seed)}".encode()).hexdigest()[:32]
        path = seen.context.run_folder / "artifacts" / CONTROLS / f"{key}.npy"
        if not path.exists():
            sharp = {split: ClipPairs(2 * part.truth - 1, part.truth) for split, part in pairs.items()}
            network = _built(self.network, sharp[Split.TRAIN], seen.seed)
            restorer, _ = train_restorer(
                network,
                self.budget,
                sharp[Split.TRAIN],
                sharp[Split.VAL],
                seed=seen.seed,
                pulse=pulse_of(seen.context, "U-Net, control", (0, 1)),
            )
            test = sharp[Split.TEST]
            content = io.BytesIO()
            np.save(content, clip_ssim(restorer.restored(test.encoded), test.truth))
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, content.getvalue())
        return np.load(path)

    def _judge_names(
        self,
        seen: Encodings,
        folder: AttackFolder,
        restorer: ClipRestorer,
        pairs: Mapping[Split, ClipPairs],
        made: Tensor,
        fit: Effort,
        identifier: Any,
        judge: Judge,
        number: int,
    ) -> None:
        from protocols.attack.control import CONTROLS, needed_of
        from protocols.attack.pulse import pulse_of
        from protocols.metrics import majority_baseline
        from protocols.video.control import clip_control, sharp_clip_recogniser
        from protocols.video.recognising import LabelledClips, train_clip_recogniser

        attacker = f"{name_of(self.network)} + {name_of(identifier)} of {judge}"
        wheres: tuple[Where, ...] = ("frame", "clip") if identifier.reads == "frame" else ("clip",)
        goal = "reidentification"
        if all(folder.has(attack_name(goal, attacker, KNOWS, w, seen.stage, self.operator)) for w in wheres):
            return
        task, place = sharp_clips(seen, seen.camera.design.span - 1), (number, len(self.identifiers))
        controls = seen.context.run_folder / "artifacts" / CONTROLS
        effort = {"seed": seen.seed, "pulse": pulse_of(seen.context, attacker, place)}
        say_weights(seen.context, identifier, made.shape[1:], len(seen.data.actor_names))
        control = clip_control(controls, task, identifier, self.identifier_budget, **effort)
        actors = {split: seen.of(split).actor for split in Split}
        if judge == "undegraded clips":
            recogniser, done = sharp_clip_recogniser(controls, task, identifier, self.identifier_budget, **effort)
        else:
            train, val = (
                LabelledClips(2 * restorer.restored(pairs[split].encoded) - 1, actors[split])
                for split in (Split.TRAIN, Split.VAL)
            )
            recogniser, done = train_clip_recogniser(
                identifier, self.identifier_budget, train, val, len(seen.data.actor_names), **effort
            )
        named = recogniser.named(LabelledClips(2 * made - 1, actors[Split.TEST]))
        for where in wheres:
            attack = _attack(
                seen,
                goal=goal,
                attacker=attacker,
                where=where,
                items=named.frames if where == "frame" else named.clip,
                sample_ids=seen.of(Split.TEST).clip_ids,
                chance=majority_baseline(actors[Split.TRAIN].numpy(), actors[Split.TEST].numpy()),
                control=control.named.frames if where == "frame" else control.named.clip,
                control_chance=control.chance,
                needed=needed_of(self.must_reach, control.chance),
                converged=done.converged and fit.converged,
                facts={"train": len(actors[Split.TRAIN])},
            )
            folder.add(attack)
            seen.context.log(
                f"{attacker}, {where}: names {100 * attack.mean:.1f} % (undegraded {100 * attack.reached:.1f} %)"
            )


def _built(settings: Unet3d, pairs: ClipPairs, seed: int) -> Any:
    """Fresh weights, the same for the same seed."""
    import torch

    from protocols.keys import stream_seed

    torch.manual_seed(stream_seed(seed, "restorer", settings.model_dump_json()))
    frames, channels = (int(side) for side in pairs.encoded.shape[1:3])
    h, w = (int(side) for side in pairs.truth.shape[-2:])
    return settings.build((frames, channels, h, w))


def _pairs(seen: Encodings, split: Split) -> ClipPairs:
    import torch

    from protocols.video.restoring import ClipPairs

    clips = np.asarray(seen.data.clips[seen.rows(split)])[:, seen.camera.design.span - 1 :]
    return ClipPairs(seen.of(split).clips, torch.from_numpy(clips))


def _attack(seen: Encodings, **known: Any) -> Attack:
    from protocols.attack.record import Attack

    return Attack(knows=KNOWS, stage=seen.stage, operator=seen.step.operator, **known)


def _keep_examples(seen: Encodings, test: ClipPairs, made: Tensor) -> None:
    """A few test clips for the report: scenes, read, made (k, T', h, w), action, actor (k,), span ()."""
    part = seen.of(Split.TEST)
    kept = one_of_each(part.action.numpy(), CLIPS)
    content = io.BytesIO()
    np.savez_compressed(
        content,
        scenes=test.truth[kept][:, :, 0].numpy().astype(np.float16),
        read=test.encoded[kept][:, :, 0].numpy().astype(np.float16),
        made=made[kept][:, :, 0].numpy().astype(np.float16),
        action=part.action[kept].numpy(),
        actor=part.actor[kept].numpy(),
        span=np.array(seen.camera.design.span),
    )
    write_whole(seen.context.folder / EXAMPLES, content.getvalue())


def _metrics(folder: AttackFolder, seen: Encodings) -> dict[str, Any]:
    """By goal and place, the strongest that proves something; of likeness also the gain over the mean picture."""
    found: dict[str, Any] = {"of": f"{seen.stage} frames, {seen.step.operator} read-out"}
    for attack in folder:
        key = f"{attack.goal}_{attack.where}"
        found.setdefault(key, None)
        if attack.proven and (found[key] is None or attack.mean > found[key]):
            found[key] = attack.mean
            if "gain" in attack.facts:
                found[f"{key}_gain"] = attack.facts["gain"]
    return found
