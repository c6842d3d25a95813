"""What a study is made of: its settings, its questions, its participants and their answers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, MaxLen, MinLen

from labctl.frozen import Frozen
from labctl.study.pictures import Encoding

Phase = Literal["practice", "trial"]
Split = Literal["train", "val", "test", "all"]

Subtract = Literal["nothing", "dark", "background", "closed"]
"""What is taken off the frames before they are shown; see `labctl.frames.samples.Treatment`. Leaking light and stray
light hide a scene from people though nothing protects it: whoever has the camera takes them off."""

MOST_CHOICES = 10
"""As many as there are digit keys."""

Text = Annotated[str, MinLen(1), MaxLen(200)]


class StudySettings(Frozen):
    """How the study is held. Two studies with equal settings, sets, references and consent are the same study."""

    trials: Annotated[int, Ge(1), Le(2000)]
    choices: Annotated[int, Ge(2), Le(MOST_CHOICES)]
    practice: Annotated[int, Ge(0), Le(50)]
    break_every: Annotated[int, Ge(0)]
    """A break screen after so many trials; 0 for none."""

    seed: int
    split: Split
    subtract: Subtract
    encoding: Encoding
    turn: Literal[0, 90, 180, 270]
    """Degrees by which frames are turned to the left, so that they stand as the references do."""

    mirror: bool
    """Whether frames are mirrored, left to right, before they are turned."""

    show_names: bool
    """Whether the labels stand below the reference pictures; names of people are not shown unless asked for."""

    question: Text


class SetFacts(Frozen):
    """One set that is asked for, whatever folder it lies in."""

    name: str
    set_id: str
    frames: int


class Choice(Frozen):
    """One of the pictures to choose from."""

    label: str
    reference: str


class Trial(Frozen):
    """One question: which frame, and which pictures in which order."""

    group: Annotated[int, Ge(0)]
    row: Annotated[int, Ge(0)]
    sample_id: int
    label: str
    design: str
    choices: Annotated[tuple[Choice, ...], MinLen(2)]

    @property
    def right(self) -> int:
        """Place of the right choice."""
        return next(place for place, choice in enumerate(self.choices) if choice.label == self.label)


class Participant(Frozen):
    """Somebody who consented: a code, never a name, and all that this person will be asked."""

    code: str
    consented_unix_s: float
    consent_sha256: str
    practice: tuple[Trial, ...]
    trials: tuple[Trial, ...]

    def question(self, number: int) -> tuple[Phase, Trial]:
        """Question `number`, the practice first."""
        if number < len(self.practice):
            return "practice", self.practice[number]
        return "trial", self.trials[number - len(self.practice)]

    @property
    def questions(self) -> int:
        """Practice and trials together."""
        return len(self.practice) + len(self.trials)


class Given(Frozen):
    """What the page sends when somebody chose."""

    code: Annotated[str, MaxLen(40)]
    number: Annotated[int, Ge(0)]
    chosen: Annotated[int, Ge(0), Le(MOST_CHOICES - 1)]

    response_ms: Annotated[float, Gt(0), Le(24 * 3600e3)]
    """By the clock of the page: from the first screen refresh that shows all pictures to the key or click."""

    interrupted: bool
    """The page was loaded anew in this trial, or was out of sight: its time is no response time."""


class Answer(Frozen):
    """One line of `answers.jsonl`."""

    participant: str
    number: Annotated[int, Ge(0)]
    phase: Phase
    chosen: Annotated[int, Ge(0)]
    correct: bool
    response_ms: float
    interrupted: bool
    unix_time_s: float
    blurriness: float | None
    """Of the frame as it was measured; None for frames too small to judge."""


def dump(model: Frozen) -> dict[str, Any]:
    """As JSON values."""
    return model.model_dump(mode="json")
