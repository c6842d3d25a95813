"""How the answers of `labctl dataset` look on the terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from labctl.cli.talk import console
from labctl.frames.proof import Report

MANY = 12
"""More labels than this are counted, not listed."""


def info_table(summary: Mapping[str, Any]) -> Table:
    """What a set is; see `summarize`."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in _info_rows(summary):
        table.add_row(name, escape(text))
    return table


def show_report(report: Report) -> None:
    """One line per finding, the counts, and what is known of the frames."""
    screen = console()
    for finding in report.findings:
        mark, style = ("✗", "red") if finding.severity == "error" else ("·", "yellow")
        line = Table.grid(padding=(0, 1))
        line.add_column(width=1)
        line.add_column(width=10)
        line.add_column(overflow="fold")
        line.add_row(Text(mark, style), Text(finding.word, "bold"), Text(finding.text))
        screen.print(line)
    unknown = {name: share for name, share in report.known.items() if share < 1}
    if unknown:
        said = ", ".join(f"{name} {_percent(share)}" for name, share in unknown.items())
        screen.print(Text(f"known of all frames but for: {said}", "dim"))
    proof = f"{report.proven} of {report.frames} frames proved to the last pixel"
    if not report.pixels_read:
        proof = f"{report.frames} frames looked at, but not their pixels"
    counts = f"{report.missing} missing, {report.duplicated} duplicate, {report.corrupt} corrupt"
    screen.print(Text(f"{proof}; {counts}"))
    whole = "the set is whole" if report.pixels_read else "whole as far as looked; pixels were not read"
    screen.print(Text(whole, "green") if report.ok else Text("the set is NOT whole", "red"))


def split_table(name: str, counts: Mapping[str, Mapping[str, int]]) -> Table:
    """How many frames, samples and labels each part of a split has."""
    table = Table(title=f"split '{escape(name)}'", title_justify="left")
    table.add_column("part")
    for column in ("frames", "samples", "labels"):
        table.add_column(column, justify="right")
    for part, values in counts.items():
        table.add_row(part, *(str(values[column]) for column in ("frames", "samples", "labels")))
    return table


def _info_rows(s: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "set", s["title"] or s["set_id"]
    yield "where", s["where"]
    rig = s["rig"]
    yield (
        "captured",
        f"{_period(s['taken'])} on {rig['name'] or 'an unknown rig'} ({rig['nature'] or 'nature unknown'})",
    )
    yield "state", _state(s)
    yield "frames", _counts(s["kinds"]) or "none"
    shape = s["shape"]
    channels = f", {shape['channels']} channels" if shape["channels"] > 1 else ""
    yield "of", f"{shape['rows']} x {shape['columns']} px{channels}, uint16 DN"
    yield "samples", f"{s['samples']}" + (f", up to {s['repeats']} frames each" if s["repeats"] > 1 else "")
    labels = s["labels"]
    yield "labels", f"{len(labels)}; {_frames(labels)}" if 0 < len(labels) <= MANY else f"{len(labels)}"
    yield "splits", _frames(s["splits"]) or "none"
    for name, parts in s["later_splits"].items():
        yield "", f"'{name}': {_frames(parts) or 'damaged'}"
    ladder = f", ladder {' : '.join(f'{rung:g}' for rung in s['ladder'])}" if len(s["ladder"]) > 1 else ""
    yield "exposure", f"{_span(s['exposure_s'], 'ms', 1e3)}, {_span(s['gain_db'], 'dB')}{ladder}"
    yield "levels", f"black {_span(s['black_level_dn'], 'DN')}, saturation {_span(s['saturation_dn'], 'DN')}"
    yield from _saturated(s)
    yield "design", f"{s['design'] or 'unknown'}, {len(s['masks'])} {'mask' if len(s['masks']) == 1 else 'masks'}"
    for name, span in s["instruments"].items():
        yield name, _span(span, span["unit"] or "(unit unknown)")
    for name, ids in s["calibrations"].items():
        yield f"calib. {name}", ", ".join(ids)
    yield "privacy", s["privacy_in_words"]
    scenes = s["scenes"]
    none = "not kept" if s["finished"] else "none yet; a capture with `keep_scenes` writes them when it ends"
    yield "scenes", f"the sharp scenes of {scenes['kept']} samples are kept" if scenes else none
    yield "marked", f"{s['marked_frames']} frames (marks: {_counts(s['marks'])})" if s["marks"] else "none"
    if s["retaken"] or s["witnessed"]:
        yield "witness", f"{_counts(s['witnessed']) or 'none'}; {s['retaken']} frames were taken again"
    size = "unknown" if s["disk_bytes"] is None else _bytes(s["disk_bytes"])
    yield "on disk", f"{size} for {_bytes(s['pixel_bytes'])} of pixels ({s['compression']}), sync: {s['sync']}"
    yield "history", _history(s)
    if s["merged_from"]:
        yield "merged from", ", ".join(_short(name) for name in s["merged_from"])
    for name, text in s["about"].items():
        yield name, text
    for problem in s["problems"]:
        yield "PROBLEM", f"{problem}; see `labctl dataset verify`"


def _state(s: Mapping[str, Any]) -> str:
    planned = "" if s["planned"] is None else f" of {s['planned']}"
    if s["writer"]:
        return f"being written by {s['writer']}: {s['frames']}{planned} frames so far"
    if s["finished"]:
        return f"finished: {s['frames']}{planned} frames"
    return f"not finished: {s['frames']}{planned} frames; go on with `labctl resume`"


def _history(s: Mapping[str, Any]) -> str:
    last = s["last_recovery"]
    mended = f"; last mended {last['time']}: {'; '.join(last['did'])}" if last else ""
    return f"{s['sessions']} {'session' if s['sessions'] == 1 else 'sessions'}{mended}"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name}: {count}" for name, count in counts.items())


def _frames(counts: Mapping[str, int]) -> str:
    """Numbers of frames, and that they are."""
    return f"frames of {_counts(counts)}" if counts else ""


def _saturated(s: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """One line; of a ladder one per rung, since longer exposures saturate on purpose."""
    share, rungs = s["saturated_fraction"], s["saturated_fraction"]["rungs"]
    if len(rungs) < 2:
        yield "saturated", f"{_percent(share['mean'])} of the pixels, at most {_percent(share['highest'])} of a frame"
        return
    for place, (rung, own) in enumerate(rungs.items()):
        said = f"{_percent(own['mean'])} of the pixels of scenes, at most {_percent(own['highest'])} of a frame"
        times = f" ({s['ladder'][int(rung)]:g} x)" if int(rung) < len(s["ladder"]) else ""
        yield "" if place else "saturated", f"rung {rung}{times}: {said}"


def _short(set_id: str) -> str:
    """A content hash by its first 8 digits, any other name as it is."""
    return set_id[:8] if len(set_id) >= 32 and not set_id.strip("0123456789abcdef") else set_id


def _span(span: Mapping[str, float] | None, unit: str, factor: float = 1.0) -> str:
    if span is None:
        return "unknown"
    low, high = factor * span["low"], factor * span["high"]
    said = f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"
    return said if unit == "1" else f"{said} {unit}"


def _period(span: Mapping[str, float] | None) -> str:
    if span is None:
        return "nobody knows when"
    first, last = (time.strftime("%Y-%m-%d %H:%M", time.localtime(span[name])) for name in ("low", "high"))
    return first if first == last else f"{first} to {last}"


def _percent(share: float) -> str:
    """Never rounded to a whole that it is not."""
    percent = 100 * share
    return f"{percent:.3g} %" if percent <= 0 or 0.1 <= percent <= 99.9 or percent >= 100 else f"{percent:.4f} %"


def _bytes(count: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count} bytes"
