"""What was found out about frames after they were written: marks are appended, frames never change."""

from __future__ import annotations

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
