"""What an analysis leaves behind: numbers as JSON, a table, a figure; and the table that the terminal shows."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING

from labctl.durable import write_json, write_whole
from labctl.errors import RunFailed
from labctl.study.analysis import DesignFound, Share, StudyAnalysis

if TYPE_CHECKING:
    from rich.table import Table

COLUMNS = (
    "design", "accuracy", "accuracy_low", "accuracy_high", "interval", "correct", "answers", "participants", "chance",
    "above_chance", "median_response_ms", "blurriness",
)  # fmt: skip


def write_analysis(found: StudyAnalysis, folder: Path) -> list[Path]:
    """Write or renew analysis.json, designs.csv and study.png, .svg, .pdf. Raises RunFailed when the disk refuses."""
    from labctl.study.figure import draw_study

    drawing = draw_study(found)
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_row(one, found.chance) for one in found.designs)
    files: dict[str, bytes | str] = {
        "designs.csv": text.getvalue(),
        "study.png": drawing.png,
        "study.svg": drawing.svg,
        "study.pdf": drawing.pdf,
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "analysis.json", found.dump())
        for name, content in files.items():
            write_whole(folder / name, content)
    except OSError as error:
        raise RunFailed(f"{folder} cannot be written: {error.strerror or error}; give another --out") from error
    return [folder / name for name in ("analysis.json", *files)]


def analysis_table(found: StudyAnalysis) -> Table:
    """For the terminal."""
    from rich.table import Table

    people = f"{found.participants} participant{'s' if found.participants != 1 else ''}, {found.finished} finished"
    table = Table(title=f"{people}; {found.answers} answers, chance 1/{found.choices}", title_justify="left")
    for name in ("design", "people right", "interval", "against chance", "median time", "blurriness"):
        table.add_column(name, justify="left" if name in ("design", "interval", "against chance") else "right")
    for one in found.designs:
        table.add_row(
            one.design,
            _percent(one.share),
            one.share.method,
            "above" if one.above_chance else "not told apart" if one.share.high >= found.chance else "below",
            "–" if one.median_response_ms is None else f"{one.median_response_ms / 1000:.2f} s",
            "–" if one.blurriness is None else f"{one.blurriness:.3f}",
        )
    table.caption, table.caption_justify = _curve_in_words(found), "left"
    return table


def _row(one: DesignFound, chance: float) -> dict[str, object]:
    share = one.share
    return {
        "design": one.design,
        "accuracy": round(share.accuracy, 5),
        "accuracy_low": round(share.low, 5),
        "accuracy_high": round(share.high, 5),
        "interval": share.method,
        "correct": share.correct,
        "answers": share.answers,
        "participants": share.participants,
        "chance": round(chance, 5),
        "above_chance": int(one.above_chance),
        "median_response_ms": "" if one.median_response_ms is None else round(one.median_response_ms, 1),
        "blurriness": "" if one.blurriness is None else round(one.blurriness, 5),
    }


def _curve_in_words(found: StudyAnalysis) -> str:
    if found.curve is None or found.middle_interval is None:
        return f"no curve against blurriness: {found.no_curve}"
    low, high = found.middle_interval
    return (
        f"curve: half-way to chance at blurriness {found.curve.middle:.3f} [{low:.3f}, {high:.3f}], "
        f"slope {found.curve.slope:.1f}"
    )


def _percent(share: Share) -> str:
    return f"{100 * share.accuracy:.1f} % [{100 * share.low:.1f}, {100 * share.high:.1f}]"
