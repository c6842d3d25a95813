"""Which part of the sensor is read: always one that holds the centred region."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as draw

from drivers.genicam.window import Span, centred, covering

spans = draw.builds(
    lambda low, steps, step, offset_step: Span(low, low + steps * step, step, offset_step),
    draw.integers(1, 64), draw.integers(0, 200), draw.integers(1, 32), draw.none() | draw.integers(1, 32),
)  # fmt: skip


@given(span=spans, share=draw.floats(0, 1))
def test_the_window_is_allowed_and_holds_the_region(span: Span, share: float) -> None:
    wanted = max(1, round(share * span.high))
    offset, length = covering(wanted, span)
    first = centred(wanted, span.high)
    assert 0 <= offset <= first
    assert first + wanted <= offset + length <= span.high
    assert length >= span.low
    assert (length - span.low) % span.step == 0
    assert offset % (span.offset_step or span.high) == 0


def test_a_region_that_fits_is_read_as_it_is() -> None:
    assert covering(32, Span(4, 48, 4, 4)) == (8, 32)


def test_otherwise_the_next_larger_one_is_read() -> None:
    assert covering(30, Span(4, 48, 4, 4)) == (8, 32)
    assert covering(31, Span(4, 64, 4, 4)) == (16, 32)


def test_an_axis_without_offset_is_read_whole() -> None:
    assert covering(10, Span(100, 800, 4, None)) == (0, 800)
