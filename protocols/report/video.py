"""The section on cameras for clips: strips before and after the encoder, learned steps, networks, and what it costs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from protocols.evaluate import EVALUATION_FILE
from protocols.metrics import Interval
from protocols.report import tables
from protocols.report.optics import SHOWN_DESIGNS, Pairs, file_name
from protocols.report.page import Animation, Block, Picture, Table, Text, short_name
from protocols.report.tables import Evidence, Made
from protocols.splits import spread
from protocols.video.shown import SHOWN

if TYPE_CHECKING:
    from protocols.report.video_figures import Strip
    from protocols.video.transfer import TransferCurve

STRIP_FRAMES = 8
STRIP_CLIPS = 2
FEW_DESIGNS = 3
"""Of more, one clip each is shown."""

READ_WORDS = {"read_soft": "soft", "read_hard": "hard", "read_captured": "captured"}


def video_section(evidence: Evidence, pairs: Pairs) -> list[Block]:
    """Clips, learned steps, networks and costs; nothing where no camera reads clips."""
    judged = evidence.of("evaluate_video")
    if not judged:
        return []
    shown = _shown(judged)
    return [
        *_strips(evidence, shown),
        *_moving(evidence, shown),
        *_steps(shown),
        *_networks(judged),
        *_restored(evidence),
        *_costs(judged),
    ]


def _shown(judged: Sequence[Made]) -> dict[str, dict[str, Any]]:
    """What was kept of the first seed of each design, from captured frames where there are some."""
    found: dict[str, dict[str, Any]] = {}
    for made in judged:
        path = made.folder / SHOWN
        if not path.exists():
            continue
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        if made.design not in found or ("read_captured" in arrays and "read_captured" not in found[made.design]):
            found[made.design] = arrays
    return found


def _strips(evidence: Evidence, shown: Mapping[str, Mapping[str, Any]]) -> list[Block]:
    from protocols.report.video_figures import strips_figure

    blocks: list[Block] = []
    clips = STRIP_CLIPS if len(shown) <= FEW_DESIGNS else 1
    for design, kept in list(shown.items())[:SHOWN_DESIGNS]:
        frames = int(kept["scenes"].shape[1])
        groups = {
            _title(evidence, kept, clip): strips_of(kept, clip) for clip in range(min(clips, len(kept["scenes"])))
        }
        caption = (
            f"{design}: test clips before and after the encoder, each frame at its time. Read-outs span −1 to 1 with 0 "
            "in mid-grey"
            + (
                f"; each read frame is made of {int(kept['span'])} frames and stands at the last of them."
                if kept["span"] > 1
                else "."
            )
        )
        drawing = strips_figure(groups, spread(frames, STRIP_FRAMES).tolist(), None)
        blocks.append(Picture(f"clips-{file_name(design)}", drawing, caption))
    if len(shown) > SHOWN_DESIGNS:
        blocks.append(Text(f"Clips of the other {len(shown) - SHOWN_DESIGNS} designs are left out."))
    return blocks


def strips_of(kept: Mapping[str, Any], clip: int) -> list[Strip]:
    """The clip itself, then every read-out that was kept of it."""
    from protocols.report.video_figures import Strip

    strips = [Strip("clip", kept["scenes"][clip].astype(np.float32))]
    reads = [name for name in READ_WORDS if name in kept]
    for name in reads:
        one = reads == ["read_soft"]
        words = "read out" if one else READ_WORDS[name]
        strips.append(Strip(words, kept[name][clip].astype(np.float32), int(kept["span"]) - 1, signed=True))
    return strips


def _title(evidence: Evidence, kept: Mapping[str, Any], clip: int) -> str:
    names = evidence.data.class_names
    action = int(kept["action"][clip])
    return f"action: {short_name(names[action], 24)}"


def _moving(evidence: Evidence, shown: Mapping[str, Mapping[str, Any]]) -> list[Block]:
    from protocols.report.video_figures import moving_picture

    blocks: list[Block] = []
    for design, kept in list(shown.items())[:SHOWN_DESIGNS]:
        strips = strips_of(kept, 0)
        chosen = [strips[0], next((s for s in strips if s.name == "captured"), strips[-1])]
        caption = f"{design}: the first of these clips, and what is read of it ({chosen[1].name})."
        blocks.append(Animation(f"clip-{file_name(design)}", moving_picture(chosen), caption))
    return blocks


def _steps(shown: Mapping[str, Mapping[str, Any]]) -> list[Block]:
    from protocols.report.video_figures import transfer_figure

    curves: dict[str, dict[str, TransferCurve]] = {}
    for design, kept in shown.items():
        if "curve_hard" in kept:
            curves[design] = {name: curve_of(kept, name) for name in ("hard", "soft") if f"curve_{name}" in kept}
    if not curves:
        return []
    words = []
    for design, by_operator in curves.items():
        flat = dead_zone(by_operator["hard"])
        where = f"{flat[0]:+.2f} to {flat[1]:+.2f}".replace("-", "−")
        words.append(f"{design}: {len(by_operator['hard'].edges) + 1} levels, the one around zero from {where}")
    return [
        Picture(
            "quantiser",
            transfer_figure(curves),
            "What is read for what light, or what change of light between frames, measured on the design: hard as a "
            "device does it, soft as training differentiates it. Ticks: thresholds that tell levels apart; grey: zero, "
            f"where everything that stands still lies. {'; '.join(words)}.",
        )
    ]


def curve_of(kept: Mapping[str, Any], operator: str) -> TransferCurve:
    """The curve as it was kept."""
    from protocols.video.transfer import TransferCurve

    inputs, outputs = kept[f"curve_{operator}"]
    return TransferCurve(inputs, outputs, bool(kept["span"] > 1))


def dead_zone(curve: TransferCurve) -> tuple[float, float]:
    """Inputs around zero that give the same output as zero."""
    below, above = curve.edges[curve.edges < 0], curve.edges[curve.edges >= 0]
    low = float(below.max()) if len(below) else float(curve.inputs[0])
    high = float(above.min()) if len(above) else float(curve.inputs[-1])
    return low, high


def _networks(judged: Sequence[Made]) -> list[Block]:
    """Every action network against every design, and how far read-outs lie apart."""
    cells: dict[tuple[str, str], dict[str, list[dict[str, Any]]]] = {}
    names: list[str] = []
    for made in judged:
        told = json.loads((made.folder / EVALUATION_FILE).read_text())
        key = (made.design, made.instance.name)
        for name, found in told["by_network"].items():
            names = [*names, *([] if name in names else [name])]
            cells.setdefault(key, {}).setdefault(name, []).append(found)
        cells[key].setdefault("facts", []).append(told)
    rows = []
    for (design, step), by_network in cells.items():
        facts = by_network["facts"]
        operator, trained = facts[0]["operator"], facts[0]["trained_on"]
        asked = facts[0]["stage"] if facts[0]["stage"] != "simulated" else operator
        rows.append(
            [
                design,
                step,
                f"{trained or 'the same'} → {asked}",
                *(_mean_words(by_network.get(name, [])) for name in names),
                _mean_of(facts, "soft_hard_differ"),
                _mean_of(facts, "captured_differs"),
            ]
        )
    return [
        Table(
            ["design", "step", "learned from → asked", *names, "|soft − hard|", "|captured − simulated|"],
            rows,
            "Action accuracy on the test clips of networks that were trained from scratch on encoded clips, means over "
            "seeds with the 95 % interval of the first over clips. Differences: mean absolute difference of read "
            "values, which span −1 to 1.",
        )
    ]


def _mean_words(found: Sequence[Mapping[str, Any]]) -> str:
    if not found:
        return "–"
    mean = float(np.mean([told["accuracy"] for told in found]))
    words = tables.percent(Interval(mean, found[0]["accuracy_low"], found[0]["accuracy_high"]))
    return words if len(found) == 1 else f"{100 * mean:.1f} %"


def _mean_of(facts: Sequence[Mapping[str, Any]], name: str) -> str:
    values = [told[name] for told in facts if told.get(name) is not None]
    return f"{np.mean(values):.4f}" if values else "–"


def _restored(evidence: Evidence) -> list[Block]:
    from protocols.report.video_figures import Strip, strips_figure
    from protocols.video.reconstruct import EXAMPLES

    blocks: list[Block] = []
    seen: set[tuple[str, str]] = set()
    for made in evidence.of("reconstruct_video"):
        key, path = (made.design, made.instance.name), made.folder / EXAMPLES
        if key in seen or not path.exists() or len(blocks) >= SHOWN_DESIGNS:
            continue
        seen.add(key)
        with np.load(path, allow_pickle=False) as file:
            kept = {name: file[name] for name in file.files}
        first, frames = int(kept["span"]) - 1, int(kept["scenes"].shape[1])
        groups = {
            _title(evidence, kept, clip): [
                Strip("clip", kept["scenes"][clip].astype(np.float32), first),
                Strip("read out", kept["read"][clip].astype(np.float32), first, signed=True),
                Strip("restored", kept["made"][clip].astype(np.float32), first),
            ]
            for clip in range(min(STRIP_CLIPS, len(kept["scenes"])))
        }
        drawing = strips_figure(groups, [first + int(f) for f in spread(frames, STRIP_FRAMES)], None)
        caption = (
            f"{made.design}, {made.instance.name}: test clips, what is read of them, and what a 3D U-Net restores."
        )
        blocks.append(Picture(f"restored-{file_name(made.instance.name)}-{file_name(made.design)}", drawing, caption))
    return blocks


def _costs(judged: Sequence[Made]) -> list[Block]:
    costs: dict[str, Mapping[str, Any]] = {}
    for made in judged:
        told = json.loads((made.folder / EVALUATION_FILE).read_text())
        if told.get("cost"):
            costs.setdefault(made.design, told["cost"])
    if not costs:
        return []
    heads = list(dict.fromkeys(name for cost in costs.values() for name in cost))
    return [
        Table(
            ["design", *(head.replace("_", " ") for head in heads)],
            [[design, *(_count(cost.get(head)) for head in heads)] for design, cost in costs.items()],
            "What the encoder costs for one clip of this protocol.",
        )
    ]


def _count(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if isinstance(value, int | float) else str(value)
