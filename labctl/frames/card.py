"""The data card of a set: who, what, how, licence and privacy, in Markdown, for people who were not there."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from labctl.durable import write_whole
from labctl.frames.layout import CARD
from labctl.frames.store import FrameStore
from labctl.frames.summary import summarize

MANY_LABELS = 12
"""More labels than this are not named one by one."""

WHO = ("creator", "contact", "institution", "subjects", "consent", "licence")


def write_card(folder: Path) -> Path:
    """Write `card.md` into a set, in place of an older one; what nobody said is said to be unknown."""
    store = FrameStore.open(folder)
    path = store.folder / CARD
    write_whole(path, card_text(store))
    return path


def card_text(store: FrameStore) -> str:
    """The card as Markdown. It names no folder of this computer."""
    return render_card(summarize(store), data_id=store.header.data_id)


def render_card(summary: Mapping[str, Any], *, data_id: str | None, export: Mapping[str, Any] | None = None) -> str:
    """The card of what `summarize` found. export: what `export_card` says of frames that left their set."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("labctl.frames", "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(line=_line, cell=_cell, counts=_counts, span=_span, period=_period)
    about = summary["about"]
    text = environment.get_template("card.md.j2").render(
        s={**summary, "about": {name: about.get(name) for name in WHO}},
        export=export,
        data_id=data_id,
        masks=len(summary["masks"]),
        limits=_limits(summary),
        more={name: said for name, said in about.items() if name not in WHO},
    )
    return text.rstrip("\n") + "\n"


def _limits(summary: Mapping[str, Any]) -> list[str]:
    """What a reader must know before drawing conclusions, as far as the set itself tells."""
    limits = []
    if summary["marked_frames"]:
        words = ", ".join(summary["marks"])
        limits.append(
            f"{summary['marked_frames']} frames are marked as in doubt ({words}); they are left out of learning."
        )
    if summary["retaken"]:
        limits.append(f"{summary['retaken']} frames were taken more than once until they were right.")
    if not summary["witnessed"]:
        limits.append("No witness held the frames against their patterns while they were captured.")
    if "closed" in summary["kinds"]:
        limits.append(
            "Every scene was also taken with the mask closed, which shows what leaks through the panel. Learning sees "
            "the difference of the two; its noise is up to 1.4 times (the square root of 2) that of one frame."
        )
        limits.append("No witness looks at the frames through the closed mask.")
    if not {"dark", "background", "closed"} & set(summary["kinds"]):
        limits.append("There are neither dark nor background frames to correct with.")
    if not summary["calibrations"]:
        limits.append("No calibration is on record.")
    exposures = summary["exposure_s"]
    if exposures and len(summary["ladder"]) == 1 and exposures["high"] > 1.001 * exposures["low"]:
        limits.append("Frames have different exposure times: divide before comparing brightness.")
    if len(summary["masks"]) > 1:
        limits.append("Frames were taken through several masks.")
    if summary["rig"]["nature"] is None:
        limits.append("Whether the rig was real or simulated is unknown.")
    return limits or ["None is on record."]


def _line(text: object) -> str:
    """On one line."""
    return " ".join(str(text).split())


def _cell(text: object) -> str:
    """Inside a table."""
    return _line(text).replace("|", "\\|")


def _counts(counts: Mapping[str, int]) -> str:
    named = [f"{_line(name)} {count}" for name, count in list(counts.items())[:MANY_LABELS]]
    left = len(counts) - len(named)
    return ", ".join(named) + (f" and {left} more" if left else "")


def _span(span: Mapping[str, float] | None, unit: str, factor: float = 1.0) -> str:
    if span is None:
        return "unknown"
    unit = "" if unit == "1" else unit
    low, high = factor * span["low"], factor * span["high"]
    said = f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"
    return f"{said} {unit}".rstrip()


def _period(span: Mapping[str, float] | None) -> str:
    if span is None:
        return "unknown"
    first, last = (time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(span[name])) for name in ("low", "high"))
    return first if first == last else f"{first} to {last}"
