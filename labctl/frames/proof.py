"""What the proof of a captured set says: findings, in words and numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Word = Literal[
    "missing", "duplicated", "corrupt", "zarr", "metadata", "clock", "constant", "saturated", "marks", "unfinished",
    "leftover", "scenes", "splits",
]  # fmt: skip

Severity = Literal["error", "note"]
"""`error`: the set is not what it says it is; `note`: worth knowing, and no reason to distrust it."""


@dataclass(frozen=True)
class Finding:
    """One thing that was found. frames: indices that it is about, when it is about some."""

    severity: Severity
    word: Word
    text: str
    frames: tuple[int, ...] = ()


@dataclass(frozen=True)
class Report:
    """What a proof found."""

    where: str
    frames: int
    planned: int | None
    finished: bool
    proven: int
    """Frames whose pixels were read and held against their checksum."""

    missing: int
    """Frames without a line in the ledger: those between others, and, of a finished set, those at its end."""

    duplicated: int
    """Frames that were written twice, or that repeat the pixels of another scene: a stale buffer."""

    corrupt: int
    """Frames whose pixels are gone or do not match their checksum."""

    known: dict[str, float]
    """By quantity, for which share of the frames it is known, 0..1; what belongs to a scene counts scenes only."""

    findings: tuple[Finding, ...]

    pixels_read: bool = True
    """Whether the pixels were looked at; a quick proof believes them."""

    @property
    def ok(self) -> bool:
        """Whether there is no error."""
        return not any(finding.severity == "error" for finding in self.findings)

    def dump(self) -> dict[str, Any]:
        """For scripts: JSON values. At most 1000 indices stand with each finding; its text counts them all."""
        found = [{**asdict(finding), "frames": list(finding.frames[:1000])} for finding in self.findings]
        return {**asdict(self), "ok": self.ok, "findings": found}


def error(word: Word, text: str, frames: Iterable[int] = ()) -> Finding:
    """An error. In `text`, {frames} becomes `frames_in_words`, and {do}, {are}, {have} agree with their number."""
    return _finding("error", word, text, frames)


def note(word: Word, text: str, frames: Iterable[int] = ()) -> Finding:
    """A note; see `error`."""
    return _finding("note", word, text, frames)


def frames_in_words(frames: Sequence[int], most: int = 4) -> str:
    """`frame 3`, `frames 3 to 5 and 9`, or the first few ranges and how many more. frames: ascending."""
    ranges: list[list[int]] = []
    for frame in frames:
        if ranges and frame == ranges[-1][1] + 1:
            ranges[-1][1] = frame
        else:
            ranges.append([frame, frame])
    parts = [str(a) if a == b else f"{a} to {b}" for a, b in ranges[:most]]
    left = len(frames) - sum(b - a + 1 for a, b in ranges[:most])
    if left:
        parts.append(f"{left} more")
    said = parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
    return f"{'frame' if len(frames) == 1 else 'frames'} {said}"


def _finding(severity: Severity, word: Word, text: str, frames: Iterable[int]) -> Finding:
    listed = tuple(sorted({int(frame) for frame in frames}))
    if listed:
        one = len(listed) == 1
        words = {"{do}": ("do", "does"), "{are}": ("are", "is"), "{have}": ("have", "has")}
        for name, (many, single) in words.items():
            text = text.replace(name, single if one else many)
        text = text.replace("{frames}", frames_in_words(listed))
    return Finding(severity, word, text, listed)
