"""A frame in a few lines of text: histogram, and where its values lie."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from rich.text import Text

BLOCKS = " ▁▂▃▄▅▆▇█"
ROWS = 6
BINS = 64


def histogram(pixels: npt.NDArray[Any], saturation_dn: int) -> Text:
    """How many pixels (h, w) lie where between 0 and saturation, in ROWS lines and an axis.

    Heights are logarithmic, so that the few pixels that saturate are seen; their bar is red.
    """
    counts, _ = np.histogram(pixels, bins=BINS, range=(0, saturation_dn))
    heights = np.log1p(counts) / max(np.log1p(counts.max()), 1.0)
    eighths = np.ceil(heights * ROWS * 8).astype(int)
    last = "bold red" if (pixels >= saturation_dn).any() else "cyan"
    text = Text(no_wrap=True)
    for row in reversed(range(ROWS)):
        bars = "".join(BLOCKS[level] for level in np.clip(eighths - 8 * row, 0, 8))
        text.append("  │", "dim").append(bars[:-1], "cyan").append(f"{bars[-1]}\n", last)
    middle = f"{saturation_dn // 2}"
    axis = "0" + middle.center(BINS - 2 - len(str(saturation_dn)) + 1) + str(saturation_dn)
    text.append("  └" + "─" * BINS + "\n", "dim")
    text.append(f"   {axis} DN\n", "dim")
    return text


def figures(pixels: npt.NDArray[Any], saturation_dn: int) -> dict[str, float]:
    """Minimum, median, mean and maximum in DN, and the share of the pixels (h, w) that saturate."""
    return {
        "min_dn": float(pixels.min()),
        "median_dn": float(np.median(pixels)),
        "mean_dn": float(pixels.mean()),
        "max_dn": float(pixels.max()),
        "saturated_fraction": float((pixels >= saturation_dn).mean()),
    }


def figures_line(values: dict[str, float], saturation_dn: int) -> Text:
    """`figures` as one line; what saturates is red."""
    share = values["saturated_fraction"]
    text = Text("  ")
    for name in ("min", "median", "mean", "max"):
        text.append(f"{name} ", "dim").append(f"{values[f'{name}_dn']:.4g}  ")
    text.append(f"of {saturation_dn} DN  ", "dim")
    text.append("saturated ", "dim").append(f"{100 * share:.2f} %", "bold red" if share else "green")
    return text
