"""Which window of the sensor the device reads, so that the region that is wanted lies in it. Pure arithmetic."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Span:
    """What one axis of the device allows: lengths low..high in steps, offsets in steps (None: there is no offset)."""

    low: int
    high: int
    step: int
    offset_step: int | None


def centred(wanted: int, whole: int) -> int:
    """First pixel of the centred stretch of `wanted` among `whole` pixels."""
    return (whole - wanted) // 2


def covering(wanted: int, span: Span) -> tuple[int, int]:
    """(offset, length) of the smallest allowed stretch that holds the centred `wanted` pixels.

    wanted: 1..span.high. An axis that cannot be moved, or whose steps do not allow it, is read whole.
    """
    first = centred(wanted, span.high)
    if span.offset_step is None:
        return 0, span.high
    offset = first // span.offset_step * span.offset_step
    length = max(span.low, _up(first + wanted - offset, span.low, span.step))
    if offset + length > span.high:
        offset = max(0, (span.high - length) // span.offset_step * span.offset_step)
    if length > span.high or offset > first or offset + length < first + wanted:
        return 0, span.high
    return offset, length


def _up(length: int, low: int, step: int) -> int:
    return low + max(0, -(-(length - low) // step)) * step
