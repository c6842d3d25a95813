"""Where frames went: four counters that are never mixed, and whether they explain every gap in the frame ids."""

from __future__ import annotations

from dataclasses import dataclass, fields

LAST_SHORT_ID = 0xFFFF
"""Highest block id of GigE Vision 1.x; after it comes 1, since 0 is reserved."""


@dataclass(frozen=True)
class Drops:
    """Counts of one acquisition, or sums of several.

    spanned: last id - first id + 1; received: whole frames with an id of their own; missing: ids that never came
    (`camera gap`). incomplete: frames with lost data, thrown away. underrun: frames for which the producer had no
    buffer. not_taken: whole frames that nobody took from our ring in time. repeated: frames whose id was not new.
    """

    spanned: int = 0
    received: int = 0
    missing: int = 0
    incomplete: int = 0
    underrun: int = 0
    not_taken: int = 0
    repeated: int = 0

    @property
    def adds_up(self) -> bool:
        """Whether every id between the first and the last is either received or missing."""
        return self.spanned == self.received + self.missing

    @property
    def lost_elsewhere(self) -> int:
        """Missing ids that neither an incomplete frame nor an underrun explains: lost in the camera or on the wire."""
        return max(0, self.missing - self.incomplete - self.underrun)

    def __add__(self, other: Drops) -> Drops:
        names = [known.name for known in fields(Drops)]
        return Drops(**{name: getattr(self, name) + getattr(other, name) for name in names})


class FrameIds:
    """Follows the frame ids of one acquisition. Ids that wrap after 65535 to 1 are unrolled."""

    def __init__(self) -> None:
        self.first: int | None = None
        self.last = 0
        self._raw = 0

    def follow(self, raw: int) -> int:
        """How far the id moved on: 1 for the next one, more after a gap, 0 or less when the id is not new.

        Only a new id moves `last`, which never wraps.
        """
        if self.first is None:
            self.first = self.last = self._raw = raw
            return 1
        step = raw - self._raw
        if step < -LAST_SHORT_ID // 2 and self._raw <= LAST_SHORT_ID and raw > 0:
            step += LAST_SHORT_ID
        if step > 0:
            self.last += step
            self._raw = raw
        return step
