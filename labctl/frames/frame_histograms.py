"""Histograms of a captured set, and what its frames and its bench did over time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Patch

from labctl.errors import RunFailed
from labctl.frames.contact_sheet import SPLIT_NAMES, evenly
from labctl.frames.figure_style import (
    GRID,
    INK,
    KIND_COLOURS,
    MARK_COLOURS,
    SOFT,
    cut,
    drawable,
    new_figure,
    png,
    rendered,
    styled,
    width_of,
)
from labctl.frames.record import KINDS
from labctl.frames.store import FrameStore

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

READ_PIXELS = 300_000_000
"""So many pixels of a kind are read for a histogram; what is left out is said."""

MOST_SENTINELS = 200
BINS = 160
GAP = 10
MOST_LABELS = 40
"""Labels that are drawn; the largest go first."""


def histograms(store: FrameStore, places: IntArray, *, splits: IntArray | None = None) -> bytes:
    """A PNG with histograms of DN, counts of labels, exposure, saturation, instruments and sentinels of `places`.

    splits: as in `contact_sheet`. Frames that cannot be read are left out. One frame is in memory at a time.
    """
    splits = store.splits() if splits is None else splits
    times = _times(store, places)
    panels: list[Callable[[Axes], None]] = [partial(_draw_histogram, store, places)]
    if (store.column("label")[places] >= 0).any():
        panels.append(partial(_draw_labels, store, places, splits))
    panels.append(partial(_draw_exposure, store, places, times))
    panels.append(partial(_draw_saturation, store, places, times))
    panels += [partial(_draw_reading, store, places, times, name) for name in _instruments(store, places)]
    drift = _sentinel_drift(store, places)
    if drift is not None:
        panels.append(partial(_draw_drift, times, drift))
    rows = -(-len(panels) // 2)
    with styled():
        figure = new_figure(90 + 400 * rows, ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1, wspace=0.04, hspace=0.06))
        title = cut(drawable(store.header.title or store.header.set_id, store.header.set_id), 1100, 12)
        figure.suptitle(title, x=0.024, ha="left", fontsize=12, fontweight="bold", parse_math=False)
        words = dict.fromkeys(word for _, _, word in times.shaded)
        if words:
            patches = [Patch(color=MARK_COLOURS[word], alpha=0.3, label=f"marked: {word}") for word in words]
            figure.legend(handles=patches, loc="upper right", bbox_to_anchor=(0.98, 0.995), ncols=3)
        grid = figure.subplots(rows, 2, squeeze=False)
        for axes in grid.flat[len(panels) :]:
            axes.set_axis_off()
        for axes, draw in zip(grid.flat, panels, strict=False):
            draw(axes)
        return png(rendered(figure))


@dataclass(frozen=True)
class _Times:
    """(n,) where each frame lies on the axis, and what the axis is called."""

    values: FloatArray
    label: str
    shaded: Sequence[tuple[float, float, str]]
    """Ranges that are marked, with their word."""

    def prepare(self, axes: Axes) -> None:
        axes.set_xlabel(self.label)
        edge = 0.02 * float(np.ptp(self.values)) or 0.5
        axes.set_xlim(float(self.values.min()) - edge, float(self.values.max()) + edge)
        for first, last, word in self.shaded:
            axes.axvspan(first, last, color=MARK_COLOURS[word], alpha=0.18, linewidth=0)


def _times(store: FrameStore, places: IntArray) -> _Times:
    """Since the first frame; the index where the clock of the wall was set back or stood still."""
    unix_s = store.column("unix_time_s")[places]
    passed = unix_s - unix_s[0]
    if passed[-1] <= 0 or (np.diff(passed) < 0).any():
        return _Times(places.astype(np.float64), "frame", _shaded(store, places, places.astype(np.float64)))
    units = ((2 * 86400, 86400, "days"), (2 * 3600, 3600, "hours"), (120, 60, "minutes"), (0, 1, "seconds"))
    size, word = next((size, word) for least, size, word in units if passed[-1] >= least)
    values = passed / size
    return _Times(values, f"since the first frame ({word})", _shaded(store, places, values))


def _shaded(store: FrameStore, places: IntArray, values: FloatArray) -> Sequence[tuple[float, float, str]]:
    indices = store.column("index")[places]
    found = []
    for mark in store.marks:
        inside = values[(indices >= mark.first) & (indices <= mark.last)]
        if len(inside):
            found.append((float(inside.min()), float(inside.max()), mark.word))
    return found


def _draw_histogram(store: FrameStore, places: IntArray, axes: Axes) -> None:
    saturation = int(store.column("saturation_dn")[places].max())
    step = max(1, -(-(saturation + 1) // BINS))
    edges = np.arange(0, saturation + 1 + step, step)
    read, total = 0, 0
    kinds = store.column("kind")[places]
    for kind in (kind for kind in KINDS if kind != "sentinel"):
        mine = places[kinds == kind]
        if not len(mine):
            continue
        counts, frames = _histogram(store, mine, edges)
        read, total = read + frames, total + len(mine)
        if frames:
            label = f"{kind}, {frames} frame{'s' if frames > 1 else ''}"
            axes.stairs(counts / frames, edges, color=KIND_COLOURS[kind], label=label, linewidth=1.2)
            axes.stairs(counts / frames, edges, color=KIND_COLOURS[kind], fill=True, alpha=0.12)
    black = store.column("black_level_dn")[places]
    if np.isfinite(black).any():
        _line(axes, float(np.nanmedian(black)), "black level", "left")
    _line(axes, saturation, "saturation", "right")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set(xlabel="pixel value (DN)", ylabel=f"pixels per frame and {step} DN")
    axes.set_xlim(-0.02 * saturation, 1.02 * saturation)
    axes.set_ylim(top=5 * axes.get_ylim()[1])  # room for words
    axes.set_title("pixel values" if read == total else f"pixel values, {read} of {total} frames, spread evenly")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="upper right", bbox_to_anchor=(0.98, 0.92))


def _histogram(store: FrameStore, places: IntArray, edges: IntArray) -> tuple[FloatArray, int]:
    """Pixels per bin of as many frames as may be read, and how many those are."""
    frame_pixels = int(np.prod(store.header.frame_shape))
    counts, frames = np.zeros(len(edges) - 1), 0
    for place in evenly(places, max(1, READ_PIXELS // frame_pixels)).tolist():
        try:
            levels = np.bincount(store.frame(place).ravel(), minlength=int(edges[-1]))
        except RunFailed:
            continue
        counts += np.histogram(np.arange(len(levels)), edges, weights=levels)[0]
        frames += 1
    return counts, frames


def _line(axes: Axes, value: float, name: str, side: str) -> None:
    axes.axvline(value, color=SOFT, linewidth=0.9, linestyle=(0, (4, 3)))
    axes.annotate(
        f"{name} {value:.0f}", (value, 1), xycoords=("data", "axes fraction"), fontsize=6.5, color=SOFT,
        xytext=(3 if side == "left" else -3, -2), textcoords="offset points", va="top", ha=side,
    )  # fmt: skip


def _draw_labels(store: FrameStore, places: IntArray, splits: IntArray, axes: Axes) -> None:
    """Frames of each label, one colour per split: gaps in the classes are seen at once."""
    labels, names, mine = store.column("label")[places], store.column("label_name")[places], splits[places]
    values, counts = np.unique(labels[labels >= 0], return_counts=True)
    largest = np.sort(values[np.argsort(-counts, kind="stable")[:MOST_LABELS]])
    shades = {-1: "#c4cad1", 0: "#0072B2", 1: "#E69F00", 2: "#009E73"}
    bottom = np.zeros(len(largest))
    for split, colour in shades.items():
        heights = np.array([((labels == value) & (mine == split)).sum() for value in largest])
        if heights.any():
            axes.bar(range(len(largest)), heights, 0.8, bottom, color=colour, label=SPLIT_NAMES.get(split, "no split"))
        bottom += heights
    ticks = [drawable(str(names[labels == value][0]), str(value)) for value in largest]
    turned = max(width_of(tick, 7) for tick in ticks) > 640 / len(ticks)
    ticks = [cut(tick, 130 if turned else 640, 7) for tick in ticks]
    axes.set_xticks(range(len(ticks)), ticks, rotation=90 if turned else 0, parse_math=False)
    axes.tick_params(axis="x", length=0, labelsize=7 if len(ticks) <= 24 else 5.5)
    axes.grid(axis="x", visible=False)
    axes.set(ylabel="frames", xlabel="" if turned else "label")
    rest = len(values) - len(largest)
    axes.set_title("frames by label" + (f", the {len(largest)} largest of {len(values)}" if rest else ""))
    axes.set_ylim(0, 1.18 * bottom.max())
    axes.legend(loc="upper right", ncols=4)


def _draw_exposure(store: FrameStore, places: IntArray, times: _Times, axes: Axes) -> None:
    exposure_s, gain = store.column("exposure_s")[places], store.column("gain_db")[places]
    times.prepare(axes)
    kinds = store.column("kind")[places]
    for kind in KINDS:
        mine = kinds == kind
        if mine.any():
            axes.plot(
                times.values[mine], 1e3 * exposure_s[mine], ".", ms=_size(kinds), color=KIND_COLOURS[kind], label=kind
            )
    _from_zero(axes, 1e3 * exposure_s)
    gains = np.unique(gain)
    said = f"{gains[0]:.3g} dB" if len(gains) == 1 else f"{gains[0]:.3g} to {gains[-1]:.3g} dB"
    axes.set(ylabel="exposure (ms)", title=f"exposure, at a gain of {said}")
    if len(np.unique(kinds)) > 1:
        axes.legend(loc="lower right", ncols=4, markerscale=2, handletextpad=0)


def _draw_saturation(store: FrameStore, places: IntArray, times: _Times, axes: Axes) -> None:
    percent = 100 * store.column("saturated_fraction")[places]
    times.prepare(axes)
    kinds = store.column("kind")[places]
    for kind in KINDS:
        mine = kinds == kind
        if mine.any():
            axes.plot(times.values[mine], percent[mine], ".", ms=_size(kinds), color=KIND_COLOURS[kind])
    _from_zero(axes, percent, least=0.1)
    worst = f"saturation, {percent.max():.2g} % at worst" if percent.any() else "no pixel is saturated"
    axes.set(ylabel="saturated pixels (%)", title=worst)


def _instruments(store: FrameStore, places: IntArray) -> list[str]:
    """Names of all readings, as found in frames spread over the set."""
    found = (name for place in evenly(places, 50).tolist() for name in store.records[place].instruments)
    return sorted(dict.fromkeys(found))


def _draw_reading(store: FrameStore, places: IntArray, times: _Times, name: str, axes: Axes) -> None:
    values = store.column(f"instruments.{name}")[places]
    times.prepare(axes)
    axes.plot(times.values, values, ".", ms=_size(values), color=INK)
    axes.set(ylabel=f"{drawable(name, 'reading')} ({_unit(store, name)})")
    missing = int((~np.isfinite(values)).sum())
    axes.set_title(drawable(name, "reading") + (f", not known for {missing} frames" if missing else ""))
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.margins(y=0.2)


def _unit(store: FrameStore, name: str) -> str:
    unit = store.header.units.get(name, "")
    return "unit 1" if unit == "1" else drawable(unit, "unit unknown")


@dataclass(frozen=True)
class _Drift:
    """Change since the first sentinel of the same mask and exposure, in percent."""

    rows: IntArray
    """(m,) rows in the places asked for."""

    brightness: FloatArray
    unlikeness: FloatArray
    """1 - correlation; noise alone gives more than 0, a bench that moves lets it grow."""


def _sentinel_drift(store: FrameStore, places: IntArray) -> _Drift | None:
    rows = np.flatnonzero(store.column("kind")[places] == "sentinel")
    black = store.column("black_level_dn")
    first: dict[Any, FloatArray] = {}
    found: list[tuple[int, float, float]] = []
    for row in evenly(rows, MOST_SENTINELS).tolist():
        place = int(places[row])
        record = store.records[place]
        try:
            level = store.frame(place).astype(np.float64) - np.nan_to_num(black[place])
        except RunFailed:
            continue
        key = (record.mask_hash, record.rung, record.exposure_s, record.gain_db)
        reference = first.setdefault(key, level)
        likeness = _correlation(reference, level)
        found.append((row, 100 * (level.mean() / reference.mean() - 1), 100 * (1 - likeness)))
    if len(found) < 2:
        return None
    at, brightness, unlikeness = zip(*found, strict=True)
    return _Drift(np.array(at), np.array(brightness), np.array(unlikeness))


def _correlation(one: FloatArray, other: FloatArray) -> float:
    one, other = one - one.mean(), other - other.mean()
    size = float(np.sqrt((one**2).sum() * (other**2).sum()))
    return float((one * other).sum()) / size if size else 1.0


def _draw_drift(times: _Times, drift: _Drift, axes: Axes) -> None:
    times.prepare(axes)
    at = times.values[drift.rows]
    gaps = _gaps(at)
    at, brightness, unlikeness = (np.insert(line, gaps, np.nan) for line in (at, drift.brightness, drift.unlikeness))
    axes.plot(at, brightness, "o-", ms=2.5, color=KIND_COLOURS["sentinel"], label="brightness")
    axes.plot(at, unlikeness, "s-", ms=2.5, color=SOFT, label="1 − correlation")
    axes.axhline(0, color=GRID, linewidth=1)
    axes.margins(y=0.25)
    axes.set(ylabel="change since the first (%)", title="sentinels")
    axes.legend(loc="upper left", ncols=2)


def _gaps(at: FloatArray) -> IntArray:
    """Where a line must break: behind interruptions, steps of more than `GAP` times the median."""
    steps = np.diff(at)
    return np.flatnonzero(steps > GAP * np.median(steps)) + 1 if len(steps) else np.empty(0, dtype=np.int64)


def _size(dots: npt.NDArray[Any]) -> float:
    """Of a dot, smaller where many lie side by side."""
    return float(np.clip(60 / np.sqrt(len(dots)), 2, 6))


def _from_zero(axes: Axes, values: FloatArray, least: float = 0.0) -> None:
    top = 1.25 * max(float(values.max()), least)
    axes.set_ylim(-0.03 * top, top)
