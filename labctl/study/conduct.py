"""Holding a study: what each participant is asked next, what is shown, and what is kept of the answers."""

from __future__ import annotations

import math
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from labctl.errors import BadInput
from labctl.study.consent import Consent
from labctl.study.folder import StudyFacts, StudyFolder, check_folder
from labctl.study.gallery import Gallery, KeptScenes, OwnPictures
from labctl.study.order import Asked, Question, draw_questions, uneven_sets
from labctl.study.pictures import frame_blurriness, frame_levels, png
from labctl.study.pool import AskedSet, Frame
from labctl.study.settings import Answer, Choice, Given, Participant, Phase, SetFacts, StudySettings, Trial

LETTERS = "BCDFGHJKMNPQRTVWXYZ"
"""Of codes: no vowels, so that no word comes out, and nothing that looks like a digit."""

KEPT_PICTURES = 512
"""Ready pictures that are held in memory."""


class Material:
    """All that a study shows: frames, reference pictures, consent. Checked whole, before anything is written.

    Raises BadInput: sets without labels or not whole, no reference pictures, fewer identities than choices, more
    trials than scenes. say: hears what the person who holds the study should know.
    """

    def __init__(
        self,
        sets: Sequence[AskedSet],
        settings: StudySettings,
        *,
        references: Path | None,
        consent: Consent,
        say: Callable[[str], None],
    ) -> None:
        self.settings, self.consent = settings, consent
        self.sets = tuple(sets)
        frames = [frame for group, one in enumerate(self.sets) for frame in one.frames(group)]
        if references is None:
            self.gallery: Gallery = KeptScenes(self.sets, settings.encoding)
        else:
            own = OwnPictures(references.expanduser(), self.sets, frames)
            self.gallery = own
            if not own.can_tell_same:
                say(
                    "careful: no set keeps its scenes, so it cannot be checked that no reference picture is the very "
                    "one that was captured; give other pictures of the same people"
                )
        self.frames = [frame for frame in frames if self.gallery.beside(frame, frame.label)]
        self._tell(frames, say)
        self._asked = [frame.asked for frame in self.frames]
        self._place = {(frame.group, frame.row): frame for frame in self.frames}
        self.draw("check")  # what cannot be asked of anybody is refused now

    def facts(self) -> StudyFacts:
        """What makes the study this one."""
        counts = [sum(frame.group == group for frame in self.frames) for group in range(len(self.sets))]
        sets = [
            SetFacts(name=one.name, set_id=one.set_id, frames=count)
            for one, count in zip(self.sets, counts, strict=True)
        ]
        return StudyFacts(self.settings, sets, self.gallery.fingerprint(), self.consent.sha256)

    def draw(self, participant: str) -> tuple[tuple[Trial, ...], tuple[Trial, ...]]:
        """Practice and trials of a participant; see `draw_questions`."""
        settings = self.settings
        practice, trials = draw_questions(
            self._asked,
            lambda place, label: self.gallery.beside(self.frames[place], label),
            practice=settings.practice,
            trials=settings.trials,
            choices=settings.choices,
            seed=settings.seed,
            participant=participant,
        )
        return tuple(self._trial(one) for one in practice), tuple(self._trial(one) for one in trials)

    def pixels(self, trial: Trial) -> npt.NDArray[Any]:
        """(C, h, w) DN of the frame of a trial, as the participant sees it: mirrored and turned."""
        pixels = self.sets[trial.group].pixels(trial.row)
        upright = pixels[..., ::-1] if self.settings.mirror else pixels
        return np.rot90(upright, self.settings.turn // 90, axes=(1, 2))

    def shape(self) -> tuple[int, int]:
        """(h, w) of the largest frame."""
        shapes = [one.store.header.frame_shape for one in self.sets]
        return max(shape[1] for shape in shapes), max(shape[2] for shape in shapes)

    def _trial(self, question: Question) -> Trial:
        frame = self.frames[question.frame]
        choices = tuple(Choice(label=label, reference=reference) for label, reference in question.choices)
        return Trial(
            group=frame.group,
            row=frame.row,
            sample_id=frame.sample_id,
            label=frame.label,
            design=frame.design,
            choices=choices,
        )

    def _tell(self, frames: Sequence[Frame], say: Callable[[str], None]) -> None:
        unnamed = sum(one.unnamed for one in self.sets)
        if unnamed:
            say(f"left out: {unnamed} frames without a label")
        if len(self.frames) < len(frames):
            say(
                f"left out: {len(frames) - len(self.frames)} frames whose identity has no reference picture other than "
                "the one that was captured"
            )
        asked: list[Asked] = [frame.asked for frame in self.frames]
        if uneven_sets(asked, self.settings.trials + self.settings.practice):
            say("careful: the sets show different scenes, so designs may not come equally often")
        if min(self.shape()) < 11:
            say("careful: frames smaller than 11 pixels have no blurriness; the curve against it will be missing")


class Study:
    """A study that is held: consent, questions, answers. Many may ask at once.

    A participant is known by a code that stands in the address of the page, so that a reload goes on and two windows
    never mix. Methods raise KeyError for a code that nobody has, and BadInput for what cannot be.
    """

    def __init__(self, material: Material, folder: Path) -> None:
        self.material = material
        self.folder = StudyFolder(folder, material.facts(), material.consent.text)
        self._turn, self._drawing = threading.RLock(), threading.Lock()
        self._png = lru_cache(KEPT_PICTURES)(self._draw_png)

    def begin(self) -> str:
        """Somebody consented: a new code, after the plan for it is on the disk."""
        with self._turn:
            code = self._new_code()
            practice, trials = self.material.draw(code)
            self.folder.add(
                Participant(
                    code=code,
                    consented_unix_s=time.time(),
                    consent_sha256=self.material.consent.sha256,
                    practice=practice,
                    trials=trials,
                )
            )
            return code

    def state(self, code: str) -> dict[str, Any]:
        """What this participant sees now; nothing in it tells which choice is right."""
        with self._turn:
            participant = self.folder.participants[code]
            number = len(self.folder.answers.get(code, ()))
            practice, settings = len(participant.practice), self.material.settings
            state: dict[str, Any] = {
                "code": code,
                "number": number,
                "practice": practice,
                "trials": len(participant.trials),
                "trials_done": max(0, number - practice),
            }
            if number >= participant.questions:
                return {**state, "phase": "done"}
            phase, trial = participant.question(number)
            done = number - practice
            pause = phase == "trial" and done > 0 and settings.break_every > 0 and done % settings.break_every == 0
            names = [choice.label for choice in trial.choices] if settings.show_names else None
            return {**state, "phase": phase, "break": pause, "choices": len(trial.choices), "names": names}

    def picture(self, code: str, number: int, choice: int | None) -> bytes:
        """PNG of the frame, or of one of its choices, of the question that this participant stands at."""
        with self._turn:
            _, trial = self._present(code, number)
        if choice is not None and not 0 <= choice < len(trial.choices):
            raise BadInput(f"choice {choice} is asked for; the question has {len(trial.choices)}")
        return self._png(trial, choice)[0]

    def answer(self, given: Given) -> dict[str, Any]:
        """Keep an answer and say how it goes on. One that was kept before, as after a lost reply, changes nothing."""
        with self._turn:
            participant = self.folder.participants[given.code]
            if given.number < len(self.folder.answers.get(given.code, ())):
                return {"kept": False, "state": self.state(given.code)}
            phase, trial = self._present(given.code, given.number)
            if given.chosen >= len(trial.choices):
                raise BadInput(f"choice {given.chosen} was given; the question has {len(trial.choices)}")
            self.folder.answer(
                Answer(
                    participant=participant.code,
                    number=given.number,
                    phase=phase,
                    chosen=given.chosen,
                    correct=given.chosen == trial.right,
                    response_ms=given.response_ms,
                    interrupted=given.interrupted,
                    unix_time_s=time.time(),
                    blurriness=self._png(trial, None)[1],
                )
            )
            told: dict[str, Any] = {"kept": True, "state": self.state(given.code)}
            if phase == "practice":
                told["feedback"] = {"correct": given.chosen == trial.right, "right": trial.right}
            return told

    def withdraw(self, code: str) -> None:
        """Delete what is known of a participant."""
        with self._turn:
            if code not in self.folder.participants:
                raise KeyError(code)
            self.folder.withdraw(code)

    def counts(self) -> tuple[int, int]:
        """Participants, and answered trials."""
        with self._turn:
            answered = sum(answer.phase == "trial" for answers in self.folder.answers.values() for answer in answers)
            return len(self.folder.participants), answered

    def _present(self, code: str, number: int) -> tuple[Phase, Trial]:
        participant = self.folder.participants[code]
        now = len(self.folder.answers.get(code, ()))
        if number != now or number >= participant.questions:
            raise BadInput(f"question {number} is asked for; {code} stands at {now} of {participant.questions}")
        return participant.question(number)

    def _draw_png(self, trial: Trial, choice: int | None) -> tuple[bytes, float | None]:
        """A picture, and how blurred it is if it is a frame."""
        with self._drawing:
            if choice is not None:
                return png(self.material.gallery.levels(trial.choices[choice].reference)), None
            pixels = self.material.pixels(trial)
        return png(frame_levels(pixels, self.material.settings.encoding)), frame_blurriness(pixels)

    def _new_code(self) -> str:
        known = self.folder.participants.keys() | self.folder.withdrawn
        while True:
            code = "".join(secrets.choice(LETTERS) for _ in range(6))
            if code not in known:
                return code


def scenes_to_ask(sets: Sequence[AskedSet]) -> int:
    """How many different scenes the frames of the sets show: as many questions can be put to one participant."""
    return len({frame.scene for group, one in enumerate(sets) for frame in one.frames(group)})


def check_study(material: Material, folder: Path) -> None:
    """Raise BadInput when `folder` cannot take this study. Writes nothing."""
    check_folder(folder, material.facts())


def minutes(settings: StudySettings) -> int:
    """About how long a participant takes, as the first page says it: a guess of 5 seconds for each question."""
    return math.ceil(5 * (settings.trials + settings.practice) / 60)
