"""`attack_invert`: pictures from frames, judged by likeness and by who can be named in them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import AfterValidator

from labctl.errors import BadInput, concerning
from labctl.references import OutputKind, Reference
from labctl.steps import Estimate, Source, Step, StepContext, StepResult, StepSetting
from protocols.attack.any_attacker import Attacker
from protocols.attack.attackers import Budget, Linear, SmallResidualAttacker
from protocols.fit import check_captures, check_fit
from protocols.inversion.lmmse import Lmmse
from protocols.inversion.method import FitBudget
from protocols.inversion.methods import Method
from protocols.inversion.regression import Regression
from protocols.inversion.variational import AdmmTv, Tikhonov
from protocols.inversion.wiener import Wiener
from protocols.learning_from_captures import check_corrections
from protocols.measurement import Corrections
from protocols.scenes import load_scenes, scenes_of
from protocols.splits import Split

Knowledge = Literal["known", "estimated", "wrong", "told"]
"""What is believed of the camera: see `AttackInvert.psf`."""


def _each_once(methods: tuple[Any, ...]) -> tuple[Any, ...]:
    twice = sorted({one.method for one in methods if sum(other.method == one.method for other in methods) > 1})
    if twice:
        raise ValueError(f"{', '.join(twice)} stands twice; name each method once")
    return methods


class AttackInvert(Step):
    """Reconstructs the test pictures from their frames by several methods under several beliefs about the camera.

    Judged over the whole scene and over its centre, as large as a frame, which is what a small hole sees: by SSIM and
    PSNR, and by recognisers that name who is in the reconstruction: one that learned from sharp pictures, and one that
    learned from reconstructions, the stronger attacker. Each method has to succeed on the undegraded picture first, and
    each recogniser on sharp ones.
    """

    where: ClassVar[Literal["host", "child"]] = "child"
    outputs: ClassVar[Mapping[str, str]] = {"attack": "attack"}
    uses: ClassVar[frozenset[Source]] = frozenset({"data", "design", "model", "twin"})
    modules: ClassVar[tuple[str, ...]] = ("torch", "protocols.models", "skimage.metrics")

    type: Literal["attack_invert"]

    model: Annotated[Reference, OutputKind("model")]
    """The trained camera to attack."""

    frames: Annotated[Reference, OutputKind("frames")] | None = None
    """Captured frames; without them the twin makes frames."""

    calibration: Annotated[Reference, OutputKind("calibration")] | None = None
    """By which captured frames are corrected first; without it they stay as they were measured."""

    corrections: Corrections = "all"
    """With `calibration`: these parts of `dark`, `flat`, `gain`, `registration`, or all that it has."""

    psf: Annotated[tuple[Knowledge, ...], MinLen(1)] = ("known", "estimated", "wrong")
    """What is believed. `known`: the PSF of the twin; of a mask that changes, the mean. `estimated`: from `pairs` known
    pictures and their frames. `wrong`: another mask of the family, or a misplaced one. `told`: of a mask that changes,
    the pattern of every frame; it is shown, and no verdict rests on it."""

    psf_file: Path | None = None
    """A measured PSF, as .npy (rows, columns) on the sensor grid, in place of that of the twin for `known`: what a
    point of the scene gave. Its sum is set to that of the twin."""

    pairs: Annotated[int, Ge(2), Le(100_000)] = 8
    """Known pictures for `estimated`, from the training split."""

    methods: Annotated[tuple[Method, ...], MinLen(1), AfterValidator(_each_once)] = (
        Wiener(),
        Tikhonov(),
        AdmmTv(),
        Lmmse(),
        Regression(),
    )
    """The strength of each prior is chosen on the validation split, from a hundredth to a thousand times what
    stands here, by SSIM. `regression` needs no PSF, but the frames of all training pictures."""

    fit_budget: FitBudget = FitBudget()
    """Of methods that learn in steps."""

    identifier: Attacker = SmallResidualAttacker(type="small-residual")
    """Who names people in reconstructions."""

    budget: Budget = Budget()
    """Of the identifier."""

    reidentify: Literal["best", "all", "clean"] = "best"
    """On whose reconstructions an identifier is trained: under each belief the method with the best validation SSIM,
    or all. `clean`: on none; only the one that learned from sharp pictures is asked."""

    judged: Annotated[tuple[Literal["field", "centre"], ...], MinLen(1)] = ("field", "centre")
    """Where pictures are judged: over the whole scene, and in its middle, as large as a frame."""

    must_reach: Annotated[float, Gt(0), Lt(1)] = 0.5
    """As of `attack_recognise`, for the identifier on sharp pictures."""

    must_resemble: Annotated[float, Gt(0), Lt(1)] = 0.8
    """SSIM that a method has to reach on the undegraded picture."""

    def check(self, setting: StepSetting) -> None:
        """Mask, scene and rig must fit, and there must be known pictures."""
        check_fit(setting)
        for key, named in (("psf", self.psf), ("judged", self.judged)):
            if len(set(named)) < len(named):
                raise BadInput(f"{', '.join(named)} names something twice; name each once", at=setting.at(key))
        if self.psf_file is not None:
            from protocols.attack.beliefs import check_psf_file

            with concerning(*setting.at("psf_file")):
                check_psf_file(self.psf_file, setting)
        if self.frames is not None:
            check_captures(self.frames, "train", self.pairs, setting)
            check_captures(self.frames, "test", 1, setting)
            if getattr(setting.protocol.steps[self.frames.step], "val", "all") in (0, 1):
                text = "attackers are tuned on the validation split; capture some of it (`val: all`)"
                raise BadInput(text, at=("steps", self.frames.step, "val"))
        elif self.calibration is not None:
            raise BadInput("corrects captured frames, and there are none; take it away", at=setting.at("calibration"))
        check_corrections(self.calibration, self.corrections, setting)

    def fingerprint(self) -> str:
        """See `Step.fingerprint`: what the measured PSF holds."""
        if self.psf_file is None:
            return ""
        try:
            return hashlib.sha256(self.psf_file.expanduser().read_bytes()).hexdigest()
        except OSError as error:
            raise BadInput(f"'{self.psf_file}' cannot be read: {error.strerror}; give an .npy file") from error

    def estimate(self, setting: StepSetting) -> Estimate:
        """Compute only. Looks at the data: there must be as many known pictures as pairs, and a validation split."""
        data = scenes_of(setting.protocol)
        train, val = (len(data.part(split)) for split in (Split.TRAIN, Split.VAL))
        if train < self.pairs:
            text = f"{self.pairs} is out of range; the training split has {train} pictures"
            raise BadInput(text, at=setting.at("pairs"))
        if val < 2:
            raise BadInput("attackers are tuned on the validation split, and the data have none; give it a share")
        trained = 0 if self.reidentify == "clean" or isinstance(self.identifier, Linear) else len(self.psf) + 1
        seconds = 5 + 2e-3 * self.budget.epochs * train * trained + 10 * len(self.psf) * len(self.methods)
        return Estimate(seconds=seconds, disk_bytes=4 * 2**20)

    def run(self, context: StepContext) -> StepResult:
        """Attack under every belief with every method; attacks that are there already are kept."""
        from protocols.attack.inversion_attack import InversionAttack
        from protocols.training_loop import prepare_torch

        prepare_torch()
        attack = InversionAttack(self, context, load_scenes(context))
        attack.run()
        return StepResult({"attack": attack.folder.finish()}, attack.metrics())
