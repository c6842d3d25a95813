"""Parts on learning from the bench: accuracy against captured frames, and what trainings took of the hardware."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from protocols.report.optics import Pairs, file_name
from protocols.report.page import Block, Picture, Table
from protocols.report.tables import Evidence, ms, share

if TYPE_CHECKING:
    from protocols.report.tables import Made


def learning_curve_section(evidence: Evidence, pairs: Pairs) -> list[Block]:
    """One table for all curves, one figure for each."""
    curves = [(made, _curve(made)) for made in evidence.of("learning_curve")]
    if not curves:
        return []
    rows = [row for made, curve in curves for row in _rows(made, curve)]
    said = dict.fromkeys(str(curve["interval"]) for _, curve in curves if curve.get("interval"))
    table = Table(
        ["curve", "captured training frames", "test accuracy", "above before (points)", "majority", "test frames"],
        rows,
        "The classifier of the `model` fine-tuned on growing parts of the capture, a smaller part inside a larger one. "
        f"Intervals: {'; '.join(said)}. The test split was read once, at the end.",
    )
    return [table, *(_picture(made, curve) for made, curve in curves)]


def loop_blocks(evidence: Evidence) -> list[Block]:
    """What each training with the hardware in the loop took of the bench; nothing where none did."""
    rows = []
    for made in evidence.of("train"):
        metrics, step = made.row["metrics"], made.instance.step
        if metrics.get("exposures") is None:
            continue
        exposure_s = metrics.get("exposure_s")
        rows.append(
            [
                made.instance.key,
                str(getattr(step, "gradient", "–")),
                str(getattr(step, "learns", "–")),
                f"{metrics['exposures']}",
                f"{metrics.get('mask_changes', '–')}",
                "–" if exposure_s is None else ms(float(exposure_s)),
            ]
        )
    if not rows:
        return []
    return [
        Table(
            [
                "training with the hardware in the loop",
                "gradient rule",
                "learns",
                "exposures",
                "masks shown",
                "exposure",
            ],
            rows,
            "Values are measured frames, slopes come from the rule. Exposures: all that the camera took for the "
            "training, pilots included. Exposure: at the end of the training.",
        )
    ]


def _curve(made: Made) -> dict[str, Any]:
    curve: dict[str, Any] = json.loads(made.path("curve").read_text())
    return curve


def _rows(made: Made, curve: Mapping[str, Any]) -> list[list[str]]:
    start, test = curve["start"], str(curve["n_test"])
    first = [made.instance.key, "0 (as trained)", _with_interval(start), "–", share(curve["majority"]), test]
    return [
        first,
        *(
            [
                "",
                str(point["count"]),
                _with_interval(point),
                f"{100 * (point['accuracy'] - start['accuracy']):+.1f}".replace("-", "−"),
                "",
                "",
            ]
            for point in curve["points"]
        ),
    ]


def _with_interval(point: Mapping[str, Any]) -> str:
    return f"{100 * point['accuracy']:.1f} % [{100 * point['low']:.1f}, {100 * point['high']:.1f}]"


def _picture(made: Made, curve: Mapping[str, Any]) -> Picture:
    from protocols.learning_curve import draw_curve
    from protocols.report.figures import styled

    return Picture(
        f"learning-curve-{file_name(made.instance.key)}",
        styled(draw_curve)(curve),
        f"{made.instance.key}: test accuracy against the number of captured training frames.",
    )
