"""`study`: what people said in a study that `labctl study` held, analysed inside a protocol and shown in its report."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

from labctl.errors import BadInput
from labctl.steps import Estimate, Step, StepContext, StepResult, StepSetting


class Study(Step):
    """Analyses the study in `path`, as `labctl study analyse` does. No protocol holds one: people take their time."""

    where: ClassVar[Literal["host", "child"]] = "child"
    once: ClassVar[bool] = True
    outputs: ClassVar[Mapping[str, str]] = {"study": "study"}
    modules: ClassVar[tuple[str, ...]] = ("scipy.optimize", "matplotlib")

    type: Literal["study"]

    path: Path
    """Folder of the study; relative to the current directory."""

    def check(self, setting: StepSetting) -> None:
        """There must be a study with answers."""
        from labctl.study.folder import Records

        try:
            records = Records(self.path.expanduser())
        except BadInput as error:
            error.at = setting.at("path")
            raise
        if not records.rows():
            text = f"{self.path} has no answers yet; let somebody take part, or take the step away"
            raise BadInput(text, at=setting.at("path"))

    def fingerprint(self) -> str:
        """Of settings, participants and answers: a study that went on is analysed again."""
        from labctl.study.folder import ANSWERS, PARTICIPANTS, STUDY

        folder = self.path.expanduser()
        digest = hashlib.sha256()
        for name in (STUDY, PARTICIPANTS, ANSWERS):
            file = folder / name
            digest.update(hashlib.sha256(file.read_bytes() if file.exists() else b"").digest())
        return digest.hexdigest()

    def estimate(self, setting: StepSetting) -> Estimate:
        """Compute only."""
        return Estimate(seconds=3, disk_bytes=2**18)

    def run(self, context: StepContext) -> StepResult:
        """Analyse, draw, write."""
        from labctl.study.analysis import analyse_study
        from labctl.study.files import write_analysis

        found = analyse_study(self.path.expanduser())
        written = write_analysis(found, context.folder)
        for line in found.careful:
            context.log(f"careful: {line}")
        metrics = {
            "people": found.overall.accuracy,
            "people_low": found.overall.low,
            "people_high": found.overall.high,
            "chance": found.chance,
            "participants": found.participants,
            "answers": found.answers,
            **{f"people.{one.design}": one.share.accuracy for one in found.designs},
        }
        return StepResult({"study": written[0]}, metrics)
