"""One camera inverted: the frames, who believes what of the camera, and how the pictures are judged."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from labctl.errors import BadInput
from protocols.attack.beliefs import belief_of, light_of, noise_of
from protocols.attack.control import CONTROLS, SharpTask, control_of, needed_of, sharp_recogniser
from protocols.attack.frames import AttackedFrames, attacked_frames
from protocols.attack.inverting import Fitted, fitted, inverted, undegraded
from protocols.attack.likeness import psnr_of, ssim_of
from protocols.attack.pulse import pulse_of
from protocols.attack.recognisers import Labelled, Recogniser, named_right, train_recogniser
from protocols.attack.record import Attack, AttackFolder, Where
from protocols.attack.targets import IDENTITY, Target
from protocols.attack.views import FixedView, SimulatedView, all_of, cut
from protocols.balanced import balanced_order
from protocols.inversion.examples import Examples, Exposed, Pairs, through
from protocols.metrics import majority_baseline
from protocols.splits import IntArray, Split, spread

if TYPE_CHECKING:
    from labctl.steps import StepContext
    from protocols.attack.control import Control
    from protocols.attack.invert import AttackInvert, Knowledge
    from protocols.data import ImageSet
    from protocols.inversion.problem import LinearCamera

TUNED_ON = 64
"""Validation pictures that settings of a method are compared on."""

SHOWN = 8
"""Test pictures that are kept for the report, with their reconstructions."""

EXAMPLES = "examples.npz"
PAIRS_ONLY = "all training pairs"


@dataclass(frozen=True)
class Part:
    """One split. rows: of the data; scenes: (n, 1, H, W) as the monitor shows them; light: (n, 1, h, w) their frames.

    masks: (n, H, W) what each frame was taken through, where that changes and is known.
    """

    rows: IntArray
    scenes: Tensor
    light: Tensor
    masks: Tensor | None


class InversionAttack:
    """See `AttackInvert`."""

    def __init__(self, step: AttackInvert, context: StepContext, data: ImageSet) -> None:
        self.step, self.context, self.data = step, context, data
        self.seed = int(context.setting.seed or 0)
        self.folder = AttackFolder(context.folder)
        self.controls = context.run_folder / "artifacts" / CONTROLS
        self.target = Target(IDENTITY, data.labels, data.class_names)
        self.fingerprint: str = context.setting.protocol.data.fingerprint()
        self.seen: AttackedFrames = attacked_frames(
            context, data, step.model, step.frames, step.calibration, step.corrections, step.budget
        )
        self._examples: dict[str, np.ndarray] = {}
        self._sharp_ones: dict[Where, Recogniser] = {}

    def run(self) -> None:
        """Make all attacks that are not there yet."""
        beliefs: list[Knowledge | None] = [knowledge for knowledge in self.step.psf if self._applies(knowledge)]
        closed = [method for method in self.step.methods if method.method != "regression"]
        if len(closed) < len(self.step.methods):
            beliefs.append(None)
        for number, knowledge in enumerate(beliefs):
            methods = [m for m in self.step.methods if (m.method == "regression") == (knowledge is None)]
            self._under(knowledge, methods, (number, len(beliefs)))
            self.context.stop_here(f"{number + 1} of {len(beliefs)} beliefs are done")
        self._keep_examples()

    def metrics(self) -> dict[str, Any]:
        """The strongest attacks that prove something, by goal and place."""
        found: dict[str, Any] = {"of": f"{self.seen.stage} frames"}
        for goal in ("ssim", "psnr_db", "reidentification"):
            for where in self.step.judged:
                values = [a.mean for a in self.folder if (a.goal, a.where) == (goal, where) and a.proven and a.counts]
                found[f"{goal}_{where}"] = max(values, default=None)
        return found

    # One belief

    def _applies(self, knowledge: Knowledge) -> bool:
        dynamic = self.seen.camera.design.dynamic
        if knowledge == "told" and not (dynamic and self.test.masks is not None):
            if dynamic:
                self.context.log("told: nobody wrote down the patterns of captured frames; left out")
            return False
        return True

    def _under(self, knowledge: Knowledge | None, methods: list[Any], place: tuple[int, int]) -> None:
        """All methods under one belief. None: nothing is known of the camera but the frames of training pictures."""
        believed = self._cameras(knowledge)
        if believed is None:
            return
        cameras, words = believed
        ready: dict[str, tuple[Fitted, Tensor]] = {}
        pulse = pulse_of(self.context, words, place)
        for number, method in enumerate(methods):
            pulse(number, len(methods))
            try:
                ready[method.method] = self._reconstructed(method, knowledge, cameras)
            except BadInput as error:
                self.context.log(f"{method.method}, {words}: left out: {error}")
                continue
            self._judge_likeness(method, words, knowledge, *ready[method.method])
            self._examples[f"{method.method}, {words}"] = self._shown(ready[method.method][1])
        if not ready:
            return
        best = max(ready, key=lambda name: ready[name][0].val_ssim)
        for name, (solved, pictures) in ready.items():
            self._judge_names(name, words, knowledge, pictures, solved, place, by_sharp=True)
            wanted = self.step.reidentify == "all" or (self.step.reidentify == "best" and name == best)
            if wanted:
                self._judge_names(name, words, knowledge, pictures, solved, place, by_sharp=False, cameras=cameras)

    def _cameras(self, knowledge: Knowledge | None) -> tuple[dict[Split, LinearCamera] | None, str] | None:
        """What is believed for the frames of each split, and in words; None where it cannot be a convolution."""
        if knowledge is None:
            return None, PAIRS_ONLY
        setting, pairs = self.context.setting, self._known_pairs()
        try:
            if knowledge != "told":
                belief = belief_of(knowledge, self.seen, setting, pairs, None, self.step.psf_file)
                return dict.fromkeys(Split, belief.camera), belief.words
            by_split = {
                split: belief_of(knowledge, self.seen, setting, pairs, self._part(split).masks) for split in Split
            }
        except BadInput as error:
            self.context.log(f"{knowledge}: left out: {error}")
            return None
        return {split: belief.camera for split, belief in by_split.items()}, by_split[Split.TEST].words

    def _known_pairs(self) -> tuple[Tensor, Tensor]:
        """Known pictures (n, 1, H, W) of all classes in turn, and their frames as light."""
        order = balanced_order(self.target.labels[self.train.rows], seed=self.seed)[: self.step.pairs]
        return self.train.scenes[order], self.train.light[order]

    def _reconstructed(
        self, method: Any, knowledge: Knowledge | None, cameras: dict[Split, LinearCamera] | None
    ) -> tuple[Fitted, Tensor]:
        """The method made ready, and the pictures (n, 1, H, W) that it makes of the test frames."""
        few = torch.from_numpy(spread(len(self.val.rows), TUNED_ON))
        camera = None if cameras is None else cameras[Split.VAL].some(few)
        judged = Pairs(self.val.scenes[few], self.val.light[few], camera)
        solved = fitted(
            method,
            self._examples_of(knowledge, cameras),
            judged,
            self.step.fit_budget,
            regions=[self._shape(where) for where in self.step.judged],
            seed=self.seed,
            checkpoint=self.context.folder / f"fit-{method.method}-{knowledge}.pt",
        )
        return solved, self._inverted(solved, self.test, cameras, Split.TEST)

    def _inverted(self, solved: Fitted, part: Part, cameras: dict[Split, LinearCamera] | None, split: Split) -> Tensor:
        camera = None if cameras is None else cameras[split]
        return inverted(solved.inverter, Pairs(part.scenes, part.light, camera))

    def _examples_of(self, knowledge: Knowledge | None, cameras: dict[Split, LinearCamera] | None) -> Examples:
        """What a method may learn from. Who only believes in a camera learns from what that camera would give."""
        if knowledge in ("estimated", "wrong") and cameras is not None:
            camera = cameras[Split.TRAIN]
            scenes, light = self._known_pairs()
            return Exposed(self.train.scenes, through(camera, noise_of(camera, scenes, light)))
        camera = None if cameras is None else cameras[Split.TRAIN]
        return Pairs(self.train.scenes, self.train.light, camera)

    # Judging

    def _judge_likeness(
        self, method: Any, words: str, knowledge: Knowledge | None, solved: Fitted, pictures: Tensor
    ) -> None:
        centre = self._shape("centre")
        few = self.val.scenes[spread(len(self.val.rows), TUNED_ON)]
        control = undegraded(
            self.controls,
            method,
            (cut(self.train.scenes, centre), cut(few, centre), cut(self.test.scenes, centre)),
            self.step.fit_budget,
            self.fingerprint,
            seed=self.seed,
        )
        mean_picture = self.train.scenes.mean(0, keepdim=True).expand_as(self.test.scenes)
        for where in self.step.judged:
            shape = self._shape(where)
            made, truth, none = (cut(images, shape) for images in (pictures, self.test.scenes, mean_picture))
            for goal, measure in (("ssim", ssim_of), ("psnr_db", psnr_of)):
                self.folder.add(
                    Attack(
                        goal=goal,
                        attacker=method.method,
                        knows=words,
                        where=where,
                        stage=self.seen.stage,
                        items=measure(made, truth),
                        sample_ids=self.data.sample_ids[self.test.rows],
                        chance=float(measure(none, truth).mean()),
                        control=control,
                        control_chance=0.0,
                        needed=self.step.must_resemble,
                        converged=solved.converged,
                        counts=knowledge not in ("told", "wrong"),
                        note=_note(knowledge),
                        facts={"val_ssim": solved.val_ssim, "chosen": solved.words},
                    )
                )

    def _judge_names(
        self,
        method: str,
        words: str,
        knowledge: Knowledge | None,
        pictures: Tensor,
        solved: Fitted,
        place: tuple[int, int],
        *,
        by_sharp: bool,
        cameras: dict[Split, LinearCamera] | None = None,
    ) -> None:
        """Who is in the reconstructions of the test split, told by an identifier of sharp pictures or of such ones."""
        labels = torch.from_numpy(self.target.labels)
        name = self.step.identifier.name
        attacker = f"{method} + {name} of {'sharp pictures' if by_sharp else 'reconstructions'}"
        for where in self.step.judged:
            if self.folder.has(", ".join(("reidentification", attacker, words, where, self.seen.stage))):
                continue
            shape = self._shape(where)
            control, converged = self._control(where, place), True
            if by_sharp:
                recogniser = self._sharp(where, place)
                converged = control.effort.converged
            else:
                views = {
                    split: FixedView(
                        cut(self._inverted(solved, self._part(split), cameras, split), shape),
                        shift_px=self.step.budget.augmentation.shift_px,
                        flip=self.step.budget.augmentation.flip,
                    )
                    for split in (Split.TRAIN, Split.VAL)
                }
                train, val = (Labelled(views[s], labels[self._part(s).rows]) for s in (Split.TRAIN, Split.VAL))
                recogniser, effort = train_recogniser(
                    self.step.identifier,
                    self.step.budget,
                    train,
                    val,
                    len(self.data.class_names),
                    seed=self.seed,
                    pulse=pulse_of(self.context, f"{attacker}, {where}", place),
                )
                converged = effort.converged
            judged = Labelled(FixedView(cut(pictures, shape), shift_px=0), labels[self.test.rows])
            attack = Attack(
                goal="reidentification",
                attacker=attacker,
                knows=words,
                where=where,
                stage=self.seen.stage,
                items=named_right(recogniser, judged),
                sample_ids=self.data.sample_ids[self.test.rows],
                chance=majority_baseline(self.data.labels[self.train.rows], self.data.labels[self.test.rows]),
                control=control.right,
                control_chance=control.chance,
                needed=needed_of(self.step.must_reach, control.chance),
                converged=converged and solved.converged,
                counts=knowledge not in ("told", "wrong"),
                note=_note(knowledge),
            )
            self.folder.add(attack)
            self.context.log(
                f"{attacker}, {words}, {where}: names {100 * attack.mean:.1f} % (clean {100 * attack.reached:.1f} %)"
            )

    def _shape(self, where: Where) -> tuple[int, int]:
        height, width = (int(side) for side in self.data.images.shape[-2:])
        if where == "field":
            return height, width
        return self.seen.centre

    def _task(self, where: Where) -> SharpTask:
        rows = (self.train.rows, self.val.rows, self.test.rows)
        return SharpTask(self.data, self.fingerprint, self.target, *rows, self._shape(where), soften=True)

    def _control(self, where: Where, place: tuple[int, int]) -> Control:
        pulse = pulse_of(self.context, "identifier, control", place)
        return control_of(
            self.controls, self._task(where), self.step.identifier, self.step.budget, seed=self.seed, pulse=pulse
        )

    def _sharp(self, where: Where, place: tuple[int, int]) -> Recogniser:
        """The identifier that learned from sharp pictures; made once."""
        if where not in self._sharp_ones:
            pulse = pulse_of(self.context, "identifier of sharp pictures", place)
            step = self.step
            self._sharp_ones[where] = sharp_recogniser(
                self.controls, self._task(where), step.identifier, step.budget, seed=self.seed, pulse=pulse
            )[0]
        return self._sharp_ones[where]

    # The frames

    @cached_property
    def train(self) -> Part:
        """The training split."""
        return self._made(Split.TRAIN)

    @cached_property
    def val(self) -> Part:
        """The validation split."""
        return self._made(Split.VAL)

    @cached_property
    def test(self) -> Part:
        """The test split."""
        return self._made(Split.TEST)

    def _part(self, split: Split) -> Part:
        return {Split.TRAIN: lambda: self.train, Split.VAL: lambda: self.val, Split.TEST: lambda: self.test}[split]()

    def _made(self, split: Split) -> Part:
        rows = self.seen.rows(self.target, split)
        scenes = self.seen.simulation.shown(torch.from_numpy(np.asarray(self.data.images[rows])))
        labelled = self.seen.labelled(rows, self.target)
        masks = None
        if isinstance(self.seen.view, SimulatedView) and self.seen.camera.design.dynamic:
            masks = self.seen.view.patterns(torch.from_numpy(self.seen.places(rows)))
        return Part(rows, scenes, light_of(all_of(labelled.view), self.seen), masks)

    # For the report

    def _shown(self, pictures: Tensor) -> np.ndarray:
        return np.asarray(pictures[self._shown_places].numpy()[:, 0].astype(np.float16))

    @cached_property
    def _shown_places(self) -> np.ndarray:
        labels = self.data.labels[self.test.rows]
        _, first = np.unique(labels, return_index=True)
        return first[spread(len(first), SHOWN)]

    def _keep_examples(self) -> None:
        """Scenes, frames and reconstructions of a few test pictures, one of each class."""
        places = self._shown_places
        scenes = self.test.scenes[places].numpy()[:, 0].astype(np.float16)
        light = self.test.light[places].numpy()[:, 0].astype(np.float32)
        names, made = list(self._examples), list(self._examples.values())
        np.savez_compressed(
            self.context.folder / EXAMPLES,
            scenes=scenes,
            frames=light,
            labels=self.data.labels[self.test.rows][places],
            names=np.array(names),
            made=np.array(made) if made else np.empty((0, *scenes.shape), np.float16),
        )


def _note(knowledge: Knowledge | None) -> str:
    if knowledge == "told":
        return "assumes that the pattern of every frame leaked; no verdict rests on it"
    if knowledge == "wrong":
        return "shows what a wrong mask is worth; no verdict rests on it"
    return ""
