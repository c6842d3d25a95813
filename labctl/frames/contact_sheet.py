"""One picture of many frames: what a person looks at before trusting a set."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from PIL import Image

from labctl.errors import RunFailed
from labctl.frames.figure_style import (
    GRID,
    INK,
    MARK_COLOURS,
    SOFT,
    WIDTH_PX,
    cut,
    drawable,
    new_figure,
    png,
    rendered,
    styled,
    width_of,
)
from labctl.frames.record import KINDS, FrameRecord
from labctl.frames.scenes import Scenes
from labctl.frames.store import FrameStore

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]

RANGE_PERCENT = (0.2, 99.8)
"""Of the pixels shown, so many lie below black and below white of their grey scale."""

FAR = 1 / 3
"""A kind whose grey scale would fill less than this share of that of the scenes, or miss it, gets its own."""

SPLIT_NAMES = {0: "train", 1: "val", 2: "test"}


def evenly(places: IntArray, count: int) -> IntArray:
    """At most `count` of `places`, spread over all of them, the first and the last among them."""
    if len(places) <= count:
        return places
    return places[np.linspace(0, len(places) - 1, count).round().astype(np.int64)]


def contact_sheet(
    store: FrameStore,
    places: IntArray,
    *,
    count: int = 64,
    splits: IntArray | None = None,
    scenes: Scenes | None = None,
) -> bytes:
    """A PNG of `count` frames out of `places`, spread evenly; kinds apart.

    All are on one grey scale, but for the rungs of a ladder and for kinds far darker or brighter than the first one.
    splits: (N,) split of every frame of the set; None takes those of the capture. scenes: ground truth to stand beside
    its frame. A frame that cannot be read is shown as damaged. Only the pictures shown are held in memory, reduced.
    """
    splits = store.splits() if splits is None else splits
    kinds = store.column("kind")[places]
    by_kind = {kind: places[kinds == kind] for kind in KINDS if (kinds == kind).any()}
    main = next(iter(by_kind))
    columns = _columns(min(count, len(by_kind[main])), others=len(by_kind) > 1, paired=scenes is not None)
    cell = _Cell.fit(store, scenes, columns)
    shown = {kind: evenly(found, count if kind == main else columns) for kind, found in by_kind.items()}
    sections = [
        _Section(kind, len(by_kind[kind]), [_tile(store, scenes, place, splits, cell) for place in chosen.tolist()])
        for kind, chosen in shown.items()
    ]
    with styled():
        return _draw(store, sections, cell, columns, paired=scenes is not None)


_MARGIN, _GAP, _PAIR_GAP, _SPACE = 40, 14, 4, 10
_BAR_PX, _BAR_HEIGHT, _BAR_TOP = 260, 16, 36
_BAR_LEFT = WIDTH_PX - _MARGIN - _BAR_PX
_CAPTION_PX, _SECTION_PX, _HEAD_PX, _LEGEND_BASE = 24, 46, 176, 151
_CAPTION_PT, _TITLE_PT, _TEXT_PT = 6.5, 12.0, 8.0
_MOST_COLUMNS, _LARGEST_PX = 24, 800
_WORST_FIRST = ("bad", "doubtful", "drift")


@dataclass(frozen=True)
class _Cell:
    """Pixels of the places for a frame and, beside it, for its scene."""

    width: int
    height: int
    scene_width: int

    @property
    def full_width(self) -> int:
        return self.width + (self.scene_width + _PAIR_GAP if self.scene_width else 0)

    def gap(self, columns: int) -> int:
        """Between two places: what the pictures leave, unless that would tear them apart."""
        return min((WIDTH_PX - 2 * _MARGIN - columns * self.full_width) // max(columns - 1, 1), 3 * _GAP)

    @classmethod
    def fit(cls, store: FrameStore, scenes: Scenes | None, columns: int) -> _Cell:
        """As large as `columns` beside each other allow; every pixel of a small frame gets equally many."""
        _, rows, width = store.header.frame_shape
        room = min((WIDTH_PX - 2 * _MARGIN - _GAP * (columns - 1)) / columns, _LARGEST_PX)
        shape = min(max(rows / width, 0.1), 2.0)
        scene_shape = 0.0 if scenes is None else scenes.shape[-1] / scenes.shape[-2]
        wide = (room - (_PAIR_GAP if scenes else 0)) / (1 + shape * scene_shape)
        if wide >= width and shape == rows / width:
            wide = width * int(wide // width)
        height = max(1, round(wide * shape))
        return cls(max(1, int(wide)), height, round(height * scene_shape))


@dataclass(frozen=True)
class _Tile:
    """One frame, reduced: (h, w, 1 or 3) DN, None when it is damaged; and its scene 0..1, None when it is not kept."""

    pixels: FloatArray | None
    scene: FloatArray | None
    caption: tuple[str, str, str]
    """Index; rung, exposure and label; split."""

    mark: str | None
    rung: int
    has_scene: bool
    """Whether a sample was shown, so that there is a place for its scene."""


@dataclass(frozen=True)
class _Section:
    kind: str
    total: int
    tiles: Sequence[_Tile]


Scales = dict[int, tuple[float, float]]
"""DN of black and of white, by rung."""


def _columns(count: int, *, others: bool, paired: bool) -> int:
    columns = min(math.ceil(math.sqrt(count)), _MOST_COLUMNS)
    if paired:
        columns = math.ceil(columns * 0.7)
    return max(columns, 4) if others else columns


def _tile(store: FrameStore, scenes: Scenes | None, place: int, splits: IntArray, cell: _Cell) -> _Tile:
    record, index = store.records[place], int(store.column("index")[place])
    try:
        pixels = _resized(store.frame(place), cell.width, cell.height)
    except RunFailed:
        pixels = None
    scene, sample = None, record.sample_id
    if scenes is not None and sample is not None and scenes.has(sample):
        scene = _resized(scenes.scene(sample), cell.scene_width, cell.height)
    words = {mark.word for mark in store.marks if mark.first <= index <= mark.last}
    mark = next((word for word in _WORST_FIRST if word in words), None)
    ladder = len(store.header.ladder) > 1
    caption = _caption(index, record, int(splits[place]), pixels is None, cell, ladder=ladder)
    return _Tile(pixels, scene, caption, mark, record.rung, sample is not None)


def _caption(
    index: int, record: FrameRecord, split: int, damaged: bool, cell: _Cell, *, ladder: bool
) -> tuple[str, str, str]:
    """Index, label and split, and of a ladder the exposure; a long label is cut, so that the others stay."""
    number, end = f"{index}", "damaged" if damaged else SPLIT_NAMES.get(split, "")
    by_number = "" if record.label is None else f"label {record.label}"
    label = by_number if record.label_name is None else drawable(record.label_name, by_number)
    if ladder:
        label = f"rung {record.rung}, {1e3 * record.exposure_s:.3g} ms  {label}".rstrip()
    room = (
        (cell.width if record.sample_id is None else cell.full_width)
        - width_of(f"{number}{end}", _CAPTION_PT)
        - 2 * _SPACE
    )
    return number, cut(label, room, _CAPTION_PT), end


def _resized(picture: npt.NDArray[Any], width: int, height: int) -> FloatArray:
    """(C, h, w) to (height, width, 1 or 3): means of the pixels that fall together, hard edges when enlarged."""
    channels = picture if len(picture) == 3 else picture.mean(axis=0, keepdims=True, dtype=np.float32)
    layers = [
        np.asarray(Image.fromarray(np.asarray(layer, dtype=np.float32)).resize((width, height), Image.Resampling.BOX))
        for layer in channels
    ]
    return np.stack(layers, axis=-1)


def _scales(section: _Section, main: Scales) -> Scales:
    """The grey scale of each rung that is shown: that of `main`, where it has one that suits, or an own one."""
    scales: Scales = {}
    for rung in sorted({tile.rung for tile in section.tiles}):
        pixels = [tile.pixels.ravel() for tile in section.tiles if tile.rung == rung and tile.pixels is not None]
        own = (0.0, 1.0)
        if pixels:
            low, high = np.percentile(np.concatenate(pixels), RANGE_PERCENT)
            own = float(low), float(max(high, low + 1))
        common = main.get(rung)
        scales[rung] = common if common is not None and (not pixels or not _far(own, common)) else own
    return scales


def _far(own: tuple[float, float], common: tuple[float, float]) -> bool:
    span = common[1] - common[0]
    shared = min(own[1], common[1]) - max(own[0], common[0])
    return shared < FAR * span or shared < FAR * (own[1] - own[0])


def _draw(store: FrameStore, sections: Sequence[_Section], cell: _Cell, columns: int, *, paired: bool) -> bytes:
    main = _scales(sections[0], {})
    scales = [main, *(_scales(section, main) for section in sections[1:])]
    row_px = _CAPTION_PX + cell.height + _GAP
    rows = [math.ceil(len(section.tiles) / columns) for section in sections]
    titled = len(sections) > 1 or len(main) > 1
    height = _HEAD_PX + sum(rows) * row_px + (_SECTION_PX * len(sections) if titled else 0) + _MARGIN // 2
    figure = new_figure(height)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH_PX), ylim=(height, 0), frame_on=False)
    axes.set_axis_off()
    _write_head(axes, store, sections, scales, paired=paired)
    pictures = [
        _Picture(
            _BAR_LEFT, _BAR_TOP, np.tile(np.linspace(0, 255, _BAR_PX, dtype=np.float32), (_BAR_HEIGHT, 1))[..., None]
        )
    ]
    top = _HEAD_PX
    for section, own, count in zip(sections, scales, rows, strict=True):
        if titled:
            title = f"{_section_title(section)}{_brightness(section)}"
            axes.text(_MARGIN, top + 24, title, fontsize=_TEXT_PT, fontweight="bold")
            if said := _own_scales(own, main, first=section is sections[0]):
                left = _MARGIN + 1.15 * width_of(title, _TEXT_PT) + 2 * _SPACE  # bold is wider
                _text(axes, left, top + 24, cut(said, WIDTH_PX - _MARGIN - left, _TEXT_PT), _TEXT_PT)
            top += _SECTION_PX
        for number, tile in enumerate(section.tiles):
            left = _MARGIN + number % columns * (cell.full_width + cell.gap(columns))
            pictures += _place(axes, tile, cell, left, top + number // columns * row_px + _CAPTION_PX, own[tile.rung])
        top += count * row_px
    paper = rendered(figure)
    for picture in pictures:  # matplotlib would take seconds for them
        tall, wide, _ = picture.levels.shape
        paper[picture.top : picture.top + tall, picture.left : picture.left + wide] = picture.levels.round()
    return png(paper)


@dataclass(frozen=True)
class _Picture:
    """(h, w, 1 or 3) levels 0..255, and the pixel where it begins."""

    left: int
    top: int
    levels: FloatArray


def _place(axes: Axes, tile: _Tile, cell: _Cell, left: int, top: int, grey: tuple[float, float]) -> list[_Picture]:
    """Draw all of a tile but its pictures, and return those."""
    number, label, end = tile.caption
    full_width = cell.full_width if tile.has_scene else cell.width
    axes.text(left, top - 7, number, fontsize=_CAPTION_PT)
    _text(axes, left + width_of(number, _CAPTION_PT) + _SPACE, top - 7, label, _CAPTION_PT)
    _text(axes, left + full_width, top - 7, end, _CAPTION_PT, ha="right")
    boxes = [(left, cell.width, tile.pixels, grey)]
    if cell.scene_width and tile.has_scene:
        boxes.append((left + cell.width + _PAIR_GAP, cell.scene_width, tile.scene, (0.0, 1.0)))
    for start, width, picture, _ in boxes:
        if picture is None:
            axes.add_patch(Rectangle((start, top), width, cell.height, facecolor=GRID))
            axes.plot((start, start + width), (top, top + cell.height), color="white", linewidth=1)
    if tile.mark is not None:
        outline = Rectangle((left - 3, top - 3), full_width + 6, cell.height + 6)
        outline.set(fill=False, edgecolor=MARK_COLOURS[tile.mark], linewidth=2.2)
        axes.add_patch(outline)
    return [
        _Picture(start, top, (255 * (picture - low) / (high - low)).clip(0, 255))
        for start, _, picture, (low, high) in boxes
        if picture is not None
    ]


def _section_title(section: _Section) -> str:
    said = f"{section.total} {section.kind} frame{'s' if section.total != 1 else ''}"
    return said if section.total == len(section.tiles) else f"{said}, {len(section.tiles)} shown"


def _own_scales(own: Scales, main: Scales, *, first: bool) -> str:
    """What is black and white in a row, where the bar in the head does not say it."""
    if first and len(own) == 1:
        return ""
    special = {rung: scale for rung, scale in own.items() if first or scale != main.get(rung)}
    if not special:
        return ""
    alone = len(own) == 1
    said = [f"{'' if alone else f'rung {rung}: '}{low:.0f} to {high:.0f} DN" for rung, (low, high) in special.items()]
    return f"{'' if first else 'own '}grey scale{'' if alone else 's:'} {', '.join(said)}"


def _brightness(section: _Section) -> str:
    """What a grey scale hides: how bright the frames are."""
    means = [float(tile.pixels.mean()) for tile in section.tiles if tile.pixels is not None]
    return f"  ·  {sum(means) / len(means):.1f} DN on average" if means else ""


def _write_head(
    axes: Axes, store: FrameStore, sections: Sequence[_Section], scales: Sequence[Scales], *, paired: bool
) -> None:
    """Which set this is, how it is shown, and what the colours mean."""
    header, room = store.header, _BAR_LEFT - 2 * _MARGIN
    title = cut(drawable(header.title or header.set_id, header.set_id), room, _TITLE_PT)
    _text(axes, _MARGIN, 44, title, _TITLE_PT, color=INK, fontweight="bold")
    channels, rows, columns = header.frame_shape
    shape = f"{rows} × {columns} px" + (f", {channels} channels" if channels > 1 else "")
    rig = "" if header.rig_name is None else f"rig {header.rig_name}" + (f" ({header.nature})" if header.nature else "")
    shown = ", ".join(_section_title(section) for section in sections)
    spread = ", spread evenly" if any(section.total > len(section.tiles) for section in sections) else ""
    design = "" if header.design is None else f"design {header.design}"
    about = (rig, design, f"privacy: {header.privacy}", header.created[:16].replace("T", " "))
    parts = "frame index, rung and exposure, label" if len(header.ladder) > 1 else "frame index, label"
    above = f"above each frame: {parts}, split" + ("; beside it its scene" if paired else "")
    lines = (f"{shown}{spread}  ·  {shape}", "  ·  ".join(part for part in about if part), above)
    for number, line in enumerate(lines):
        _text(axes, _MARGIN, 74 + 24 * number, cut(line, room, _TEXT_PT), _TEXT_PT)
    _write_legend(axes, sections, paired=paired)
    right, under = _BAR_LEFT + _BAR_PX, _BAR_TOP + _BAR_HEIGHT + 22
    axes.add_patch(Rectangle((_BAR_LEFT - 1, _BAR_TOP - 1), _BAR_PX + 2, _BAR_HEIGHT + 2, fill=False, edgecolor=GRID))
    main = scales[0]
    if len(main) == 1:
        ((low, high),) = main.values()
        words = f"{low:.0f}", f"{high:.0f} DN"
        one = all(set(own.values()) == {(low, high)} for own in scales)
        said = "one grey scale for all frames" if one else "grey scale, but for rows that name their own"
    else:
        words, said = ("black", "white"), "every rung has its own grey scale"
    _text(axes, _BAR_LEFT, under, words[0], _TEXT_PT)
    _text(axes, right, under, words[1], _TEXT_PT, ha="right")
    _text(axes, right, _BAR_TOP - 8, said, _CAPTION_PT, ha="right")


def _write_legend(axes: Axes, sections: Sequence[_Section], *, paired: bool) -> None:
    left = float(_MARGIN)
    marks = Counter(tile.mark for section in sections for tile in section.tiles if tile.mark is not None)
    for word in (word for word in _WORST_FIRST if word in marks):
        axes.add_patch(
            Rectangle((left + 2, _LEGEND_BASE - 13), 14, 14, fill=False, edgecolor=MARK_COLOURS[word], linewidth=2.2)
        )
        said = f"marked: {word} ({marks[word]} shown)"
        _text(axes, left + 26, _LEGEND_BASE, said, _TEXT_PT, color=INK)
        left += 26 + width_of(said, _TEXT_PT) + 36
    if paired:
        said = "The sharp scenes stand beside the frames: treat this picture like them."
        _text(axes, left, _LEGEND_BASE, said, _TEXT_PT, color=MARK_COLOURS["bad"])


def _text(axes: Axes, left: float, base: float, text: str, size: float, *, color: str = SOFT, **more: Any) -> None:
    """Text as it is: a label may hold dollars."""
    axes.text(left, base, text, fontsize=size, color=color, parse_math=False, **more)
