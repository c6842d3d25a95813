"""The capture itself: frame after frame, each judged, taken again when in doubt, and handed to the disk."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from labctl.errors import RunFailed, Stopped
from labctl.exposure import FloatArray, Frames
from labctl.frames.marks import Mark
from labctl.frames.record import FrameRecord, Retry, WitnessScore
from labctl.frames.store import FrameStore
from labctl.frames.witness import Witness
from labctl.frames.writer import FrameWriter
from labctl.steps import StepContext
from protocols.capture.drift import Change, DriftWatch
from protocols.capture.exposing import Exposer
from protocols.capture.judging import WITNESS_FILE
from protocols.capture.metadata import FrameNotes

OnDrift = Literal["ask", "stop", "mark"]

ANSWERS = ("recalibrated", "go on", "stop")
"""To the question what shall become of a drift."""

SENTINEL_ATTEMPTS = 2
"""A drift is believed when a second frame, from displays settled anew, shows it too."""

DOUBTFUL_IN_A_ROW = 5
"""One more, and it is not the odd frame that is lost: something on the bench is wrong."""


class FrameTaking:
    """Takes the frames of a plan that a set does not have yet.

    block: frames between two looks at whether the user wants to stop. attempts: at a frame that the witness doubts.
    renew_witness: measures the witness anew after a recalibration, given a number that no other one had, from 1 on.
    drift: None without sentinels.
    """

    def __init__(
        self,
        context: StepContext,
        writer: FrameWriter,
        exposer: Exposer,
        notes: FrameNotes,
        *,
        block: int,
        witness: Witness | None,
        renew_witness: Callable[..., Witness],
        attempts: int,
        drift: DriftWatch | None,
        on_drift: OnDrift,
    ) -> None:
        self._context, self._writer, self._exposer, self._notes = context, writer, exposer, notes
        self._block, self._witness, self._attempts = block, witness, attempts
        self._renew_witness = renew_witness
        self._drift, self._on_drift = drift, on_drift
        self._previous: FloatArray | None = None
        self._doubtful_in_a_row = 0

    def take(self) -> None:
        """Take all that is missing. Raises Stopped between blocks, RunFailed when the bench drifts or shows nonsense;
        what is on the disk stays, and another call goes on behind it.
        """
        start, total = self._writer.next_index, len(self._exposer.plan)
        if start:
            self._previous = self._exposer.scene(start - 1)
            self._look_back(start)
        while self._writer.next_index < total:
            self._take_part()
        self._writer.flush()
        self._context.progress(total, total, "frames")

    def _take_part(self) -> None:
        """Frames of one plan, up to the first that is in doubt, or a sentinel that drifted."""
        change = None
        with contextlib.closing(self._exposer.stream(self._writer.next_index)) as frames:  # type: ignore[type-var]
            for index, scene, frame in frames:
                judged = self._judge(index, scene, frame)
                if judged.doubt is not None:
                    break
                change = self._keep(index, scene, judged)
                if change is not None:
                    break
            else:
                return
        if judged.doubt is not None:
            change = self._take_again(index, scene, judged)
        if change is not None:
            self._pause(index, change)

    def _judge(self, index: int, scene: FloatArray, frame: Frames) -> _Judged:
        """By the witness where the data was shown; a sentinel that changed may have been shown too late as well."""
        kind = self._exposer.plan.kind(index)
        if kind == "scene" and self._witness is not None:
            score = self._witness.judge(frame, scene, self._previous)
            said = f"witness: {score.word} (own {score.own:.2f}, share of the previous {score.previous_share:.2f})"
            return _Judged(frame, score, None if score.word == "right" else said, self._attempts)
        if kind == "sentinel" and self._drift is not None:
            change = self._drift.compare(frame.pixels[0])
            return _Judged(frame, None, None if change is None else f"sentinel: {change}", SENTINEL_ATTEMPTS)
        return _Judged(frame, None, None, 1)

    def _take_again(self, index: int, scene: FloatArray, judged: _Judged) -> Change | None:
        retries: list[Retry] = []
        while judged.doubt is not None and judged.frame.attempt + 1 < judged.attempts:
            retries.append(Retry(attempt=judged.frame.attempt, reason=judged.doubt))
            judged = self._judge(index, scene, self._exposer.again(index, judged.frame.attempt + 1))
        return self._keep(index, scene, judged, retries)

    def _keep(self, index: int, scene: FloatArray, judged: _Judged, retries: Sequence[Retry] = ()) -> Change | None:
        """Hand a frame to the disk, and look what it means for the capture; returns a drift that was found."""
        frame, score = judged.frame, judged.score
        doubtful = score is not None and score.word != "right"
        if score is not None:
            self._doubtful_in_a_row = self._doubtful_in_a_row + 1 if doubtful else 0
        if self._doubtful_in_a_row > DOUBTFUL_IN_A_ROW:
            raise RunFailed(
                f"{self._doubtful_in_a_row} frames in a row, up to frame {index}, do not show their scene, at the last "
                f"of {self._attempts} attempts each ({judged.doubt}); look whether the scene display shows what it is "
                "given, whether anything moved, and at `labctl sync`; then `labctl resume`. If the bench was changed "
                f"on purpose, remove {self._context.folder / WITNESS_FILE} first: resume measures it anew. A new run "
                "with `witness: none` captures without this proof"
            )
        record = self._notes.record(frame, retries=retries, witness=score, **self._exposer.facts(index, scene))
        self._writer.append(frame.pixels[0], record)
        self._previous = scene
        if doubtful:
            self._writer.flush()
            self._mark_doubtful(index, record)
        change = None
        if self._drift is not None and record.kind == "sentinel":
            self._writer.flush()
            change = self._drift.see(index, frame.pixels[0])
        if (index + 1) % self._block == 0:
            self._end_block(index + 1)
        return change

    def _end_block(self, done: int) -> None:
        total = len(self._exposer.plan)
        self._context.progress(self._writer.acknowledged, total, "frames")
        if self._context.stop_asked() and done < total:
            self._writer.flush()
            self._context.stop_here(f"{done} of {total} frames are on the disk")

    def _look_back(self, start: int) -> None:
        """Before a resumed capture goes on: finish what its end cut off, and look whether the bench still stands."""
        store = FrameStore.open(self._writer.folder.path)
        last = store.records[start - 1]
        if last.witness is not None and last.witness.word != "right" and not store.marked[start - 1]:
            self._mark_doubtful(start - 1, last)
        if self._witness is not None:
            self._doubtful_in_a_row = _doubtful_at_the_end(store.records)
        if self._drift is None:
            return
        for index in range(self._drift.judged + 1, start):
            if self._exposer.plan.kind(index) == "sentinel":
                self._drift.see(index, store.frame(index))
        if self._drift.has_reference:
            check = self._exposer.sentinel_beside(self._drift.checks)
            change = self._drift.see(start - 1, check.pixels[0], planned=False)
            did = f"checked with a sentinel beside the plan: {'good' if change is None else change}"
            self._writer.note(kept=start, did=[did])
            if change is not None:
                self._pause(start - 1, change)

    def _pause(self, index: int, change: Change) -> None:
        """The bench drifted: marked are the frames already; decide how to go on behind frame `index`."""
        assert self._drift is not None
        text = f"the bench drifted by frame {index}: {change}; the frames since the last good sentinel are marked"
        if self._on_drift == "mark" or self._drift.tolerated:
            self._context.log(text)
            return
        if self._on_drift == "stop" or self._context.ask is None:
            raise RunFailed(
                f"{text}; put the bench right, then `labctl resume`: it goes on once a sentinel is good again, and in "
                "a terminal it can take a new reference"
            )
        answer = self._context.ask(f"{text}. Recalibrate the bench, or go on with marked frames?", ANSWERS)
        if answer == "stop":
            raise Stopped(f"the operator stopped after a drift; {index + 1} frames are on the disk")
        if answer == "go on":
            self._drift.tolerate(index)
        else:
            self._recalibrate(index)

    def _recalibrate(self, index: int) -> None:
        """The operator did it by hand: new are what frames are compared with. Calibration steps, once there are any,
        run here.
        """
        assert self._drift is not None
        anew = "sentinels are compared with a new reference"
        if self._witness is not None:  # what it knows of the bench as it stood before would make every frame doubtful
            self._witness = self._renew_witness(number=self._drift.checks + 1)
            self._doubtful_in_a_row = 0
            anew += ", frames with a witness measured anew,"
        frame = self._exposer.sentinel_beside(self._drift.checks)
        self._drift.take_reference(index, frame.pixels[0])
        said = f"recalibrated after frame {index}; {anew} from here on"
        self._writer.note(did=[said])
        self._context.log(said)

    def _mark_doubtful(self, index: int, record: FrameRecord) -> None:
        assert record.witness is not None
        reason = f"witness: {record.witness.word}, at the last of {record.attempt + 1} attempts"
        self._writer.mark(Mark(word="doubtful", first=index, last=index, reason=reason, unix_time_s=record.unix_time_s))


def _doubtful_at_the_end(records: Sequence[FrameRecord]) -> int:
    """How many of the last frames the witness doubted, one after the other: a resume must not count from 0 again."""
    count = 0
    for record in reversed(records):
        if record.witness is not None:
            if record.witness.word == "right":
                break
            count += 1
    return count


@dataclass(frozen=True)
class _Judged:
    """A frame, what the witness found, why it may have to be taken again, and how many attempts it has in all."""

    frame: Frames
    score: WitnessScore | None
    doubt: str | None
    attempts: int
