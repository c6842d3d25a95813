"""How pictures of a captured set look, and letters that a font may not have."""

from __future__ import annotations

import io
from contextlib import AbstractContextManager
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import font_manager, rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from PIL import Image

DPI = 150
WIDTH_PX = 1720
"""Of every picture: wide enough for eight frames side by side, and a screen still shows it whole."""

INK, SOFT, GRID = "#22272e", "#66707c", "#e4e7eb"

KIND_COLOURS = {
    "scene": "#0072B2", "dark": "#22272e", "background": "#009E73", "sentinel": "#CC79A7", "closed": "#8a6d3b",
}  # fmt: skip
MARK_COLOURS = {"drift": "#E69F00", "doubtful": "#56B4E9", "bad": "#D55E00"}
"""Distinguishable with every common colour-vision deficiency. [Okabe and Ito 2008]"""

COMMON: dict[str, Any] = {
    "font.size": 7.5,
    "axes.labelsize": 7.5,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#9aa3ad",
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
}
"""What all figures of labctl share, those of reports too."""

_FIRST = "DejaVu Sans"
_OTHER_SCRIPTS = (
    "Noto Sans", "Noto Sans CJK JP", "Noto Sans CJK SC", "WenQuanYi Micro Hei", "IPAexGothic", "Hiragino Sans",
    "PingFang SC", "Noto Sans Devanagari", "Noto Sans Thai", "Noto Emoji", "Liberation Sans",
)  # fmt: skip
"""Asked one after another for letters that the first font has not, where a computer has them."""


def styled() -> AbstractContextManager[None]:
    """While it lasts, figures are made in the common style."""
    own: Any = {
        **COMMON,
        "font.family": list(_families()),
        "axes.titlesize": 8.5,
        "axes.titlelocation": "left",
        "axes.grid": True,
        "axes.axisbelow": True,
        "lines.linewidth": 1.2,
    }
    return rc_context(own)


def new_figure(height_px: int, layout: Any = None) -> Figure:
    """An empty figure, WIDTH_PX wide."""
    return Figure(figsize=(WIDTH_PX / DPI, height_px / DPI), dpi=DPI, layout=layout, facecolor="white")


def rendered(figure: Figure) -> npt.NDArray[np.uint8]:
    """(h, w, 3) the figure on white."""
    canvas: Any = FigureCanvasAgg(figure)  # its methods have no types
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def png(picture: npt.NDArray[np.uint8]) -> bytes:
    """The file of a picture (h, w, 3); the same bytes for the same picture."""
    target = io.BytesIO()
    Image.fromarray(picture).save(target, "PNG", compress_level=6)
    return target.getvalue()


def drawable(text: str, instead: str) -> str:
    """`text` on one line, or `instead` when no font of this computer has one of its letters."""
    flat = " ".join(text.split())
    return flat if flat and all(ord(letter) in _letters() for letter in flat) else instead


def cut(text: str, width_px: float, size_pt: float) -> str:
    """The beginning of `text` that fits, with an ellipsis where it was cut."""
    if width_of(text, size_pt) <= width_px:
        return text
    fits, too_long = 0, len(text)
    while fits + 1 < too_long:
        middle = (fits + too_long) // 2
        if width_of(f"{text[:middle]}…", size_pt) <= width_px:
            fits = middle
        else:
            too_long = middle
    return f"{text[:fits].rstrip()}…" if fits else ""


def width_of(text: str, size_pt: float) -> float:
    """How many pixels wide a text is."""
    font = FontProperties(family=list(_families()), size=size_pt)
    return float(_measure().get_text_width_height_descent(text, font, ismath=False)[0])


@cache
def _families() -> tuple[str, ...]:
    there = set(font_manager.fontManager.get_font_names())
    return (_FIRST, *(name for name in _OTHER_SCRIPTS if name in there))


@cache
def _letters() -> frozenset[int]:
    fonts = (font_manager.get_font(font_manager.findfont(name)) for name in _families())
    return frozenset(letter for font in fonts for letter in font.get_charmap())


@cache
def _measure() -> Any:
    canvas: Any = FigureCanvasAgg(Figure(figsize=(1, 1), dpi=DPI))
    return canvas.get_renderer()
