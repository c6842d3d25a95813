"""`operator`: a person is asked to do something, and, on a rig without a scene display, to present live scenes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import numpy as np
from annotated_types import Ge, Gt, Le
from pydantic import Field

from labctl.durable import append_line
from labctl.errors import BadInput, Stopped
from labctl.exposure import Exposure, still_plan
from labctl.frames.card import write_card
from labctl.frames.record import Retry
from labctl.frames.writer import FrameWriter
from labctl.references import OutputKind, Reference
from labctl.steps import Estimate, Role, Source, Step, StepContext, StepResult, StepSetting
from protocols.capture.exposures import BLACK_IDS, black_level
from protocols.capture.metadata import About, FrameNotes, mask_facts, set_header, set_instruments
from protocols.fit import check_exposure, check_instruments, check_panel
from protocols.keys import first_exposure_id
from protocols.splits import Split

ANSWERS_FILE = "answers.jsonl"


class Operator(Step):
    """Asks, waits for the answer, writes it down. With `labels`, captures `takes` live frames of each labelled scene.

    For every take the operator says `take` or `stop`, looks at what came, and says `keep` or `again`. Every answer is
    written down. A resumed step goes on at the next missing take.
    """

    where: ClassVar[Literal["host", "child"]] = "host"
    outputs: ClassVar[Mapping[str, str]] = {"frames": "frames"}
    uses: ClassVar[frozenset[Source]] = frozenset({"rig"})
    asks: ClassVar[bool] = True

    type: Literal["operator"]

    prompt: Annotated[str, Field(min_length=1)]
    """What the operator reads."""

    labels: tuple[str, ...] = ()
    """Scenes to present, by label; empty for a plain confirmation."""

    takes: Annotated[int, Ge(1), Le(100_000)] = 1
    """Frames per label."""

    mask: Annotated[Reference, OutputKind("mask")] | None = None
    """What the SLM shows meanwhile; needed with labels."""

    exposure_s: Annotated[float, Gt(0), Le(60)] = 0.1
    split: Literal["train", "val", "test"] = "test"
    about: About = {}
    """What the data card of the captured scenes shall say: `{licence: ..., subjects: ..., consent: ...}`."""

    instruments: dict[str, dict[str, float]] = {}
    """Quantities to set before, by instrument."""

    def check(self, setting: StepSetting) -> None:
        """With labels, a mask, a display for it and a camera are needed."""
        needed: tuple[Role, ...] = ("mask", "camera") if self.labels else ()
        setting.rig.require(needed, f"step '{setting.name}'")
        check_instruments(self.instruments, setting)
        if self.labels:
            check_exposure(self.exposure_s, setting)
            if setting.design is not None:
                check_panel(setting, static=True)
        if self.labels and self.mask is None:
            raise BadInput("`labels` needs `mask`, what the SLM shows meanwhile; add it", at=setting.at("labels"))
        if len(set(self.labels)) < len(self.labels):
            raise BadInput(f"{list(self.labels)} names something twice; name each once", at=setting.at("labels"))

    def estimate(self, setting: StepSetting) -> Estimate:
        """A person's time is guessed at 5 s per answer."""
        frames = len(self.labels) * self.takes
        moves = (f"asks the operator {max(frames, 1)} times", *(["shows the mask on the SLM"] if frames else []))
        return Estimate(seconds=5.0 * max(frames, 1), frames=frames, disk_bytes=frames * 2**16, moves=moves)

    def run(self, context: StepContext) -> StepResult:
        """Ask, and capture."""
        if context.ask is None:
            raise BadInput("an operator step needs someone to ask; run it in a terminal, or give run_protocol(ask=...)")
        if not self.labels:
            answer = context.ask(self.prompt, ("done", "stop"))
            self._note(context, {"prompt": self.prompt, "answer": answer})
            if answer == "stop":
                raise Stopped(f"the operator stopped at '{self.prompt}'")
            return StepResult({}, {"confirmed": True})
        return self._capture(context)

    def _capture(self, context: StepContext) -> StepResult:
        assert self.mask is not None and context.ask is not None  # noqa: PT018 - checked before the run
        mask = np.load(context.input(self.mask))
        rig, total, folder = context.rig, len(self.labels) * self.takes, context.folder / "frames"
        set_instruments(self.instruments, rig)
        file = context.setting.protocol.file
        rows, columns = rig.devices().camera.shape
        if file.scene_px is not None and file.mask_cells is not None:
            rows, columns = rig.spec.twin.frame_shape(file.mask_cells, file.scene_px)
        first_id = first_exposure_id(context.content_hash)
        refused = 0
        header = set_header(context, mask, (1, rows, columns), total, self.about, class_names=self.labels)
        with FrameWriter(folder, header, block=1, say=context.log) as writer:
            black_dn = black_level(rig, mask.shape, None, (rows, columns), first_id=first_id + BLACK_IDS)
            notes, facts = FrameNotes(context, mask, black_dn=black_dn), mask_facts(mask, rig)
            while writer.next_index < total:
                index = writer.next_index
                label, take = index // self.takes, index % self.takes
                name = self.labels[label]
                answer = context.ask(f"{self.prompt}: '{name}', take {take + 1} of {self.takes}", ("take", "stop"))
                self._note(context, {"prompt": self.prompt, "label": name, "take": take, "answer": answer})
                if answer == "stop":
                    raise Stopped(f"the operator stopped; {index} of {total} frames are on the disk")
                attempt, again = 0, list[Retry]()
                while True:
                    exposure = Exposure(exposure_s=self.exposure_s, roi=(rows, columns))
                    frame = rig.expose(
                        still_plan("live", mask, exposure, exposure_ids=[first_id + index], attempt=attempt)
                    )
                    said = f"mean {frame.pixels.mean():.0f} DN, {100 * frame.saturated_fraction[0]:.1f} % saturated"
                    verdict = context.ask(f"'{name}' captured ({said}); keep it?", ("keep", "again"))
                    self._note(context, {"label": name, "take": take, "attempt": attempt, "answer": verdict})
                    if verdict == "keep":
                        break
                    again.append(Retry(attempt=attempt, reason="the operator refused it"))
                    attempt, refused = attempt + 1, refused + 1
                split = int(Split.of(self.split))
                record = notes.record(
                    frame, retries=again, sample_id=index, label=label, label_name=name, split=split, **facts
                )
                writer.append(frame.pixels[0], record)
                writer.flush()
                context.progress(index + 1, total, "frames")
                context.stop_here(f"{index + 1} of {total} frames are on the disk")
            if not writer.is_finished:
                writer.finish()
        write_card(folder)
        return StepResult({"frames": folder}, {"frames": total, "refused": refused})

    def _note(self, context: StepContext, said: Mapping[str, object]) -> None:
        append_line(context.folder / ANSWERS_FILE, {"time": time.time(), **said})
