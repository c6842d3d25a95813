"""What was found out about frames after they were written: marks are appended, frames never change."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from annotated_types import Ge

from labctl.frozen import Frozen

Word = Literal["drift", "doubtful", "bad"]


class Mark(Frozen):
    """A doubt about frames `first` to `last`, both included. Marked frames are left out of learning."""

    word: Word
    """`drift`: taken while the bench moved; `doubtful`: no attempt showed its pattern; `bad`: a person says so."""

    first: Annotated[int, Ge(0)]
    last: Annotated[int, Ge(0)]
    reason: str
    unix_time_s: float = 0.0


def marked(marks: Iterable[Mark], frames: int) -> npt.NDArray[np.bool_]:
    """(frames,) True where any mark lies."""
    found = np.zeros(frames, dtype=np.bool_)
    for mark in marks:
        found[mark.first : mark.last + 1] = True
    return found


def cut_marks(content: bytes, frames: int) -> tuple[bytes, int, int]:
    """The lines of `marks.jsonl` for a set of which only the first `frames` are left.

    Returns them, and how many marks were dropped and how many made shorter. A line that cannot be read stays as it is.
    """
    lines, dropped, shortened = [], 0, 0
    for line in content.splitlines(keepends=True):
        try:
            mark = Mark.model_validate_json(line)
        except ValueError:
            lines.append(line)
            continue
        if mark.first >= frames:
            dropped += 1
        elif mark.last >= frames:
            shortened += 1
            lines.append(
                json.dumps(mark.model_copy(update={"last": frames - 1}).model_dump(mode="json")).encode() + b"\n"
            )
        else:
            lines.append(line)
    return b"".join(lines), dropped, shortened
