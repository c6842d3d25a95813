"""The sections of a report in their order; each says only what finished steps prove, and none stands empty."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from labctl.rig_file import NATURE_WORDS
from protocols.report import tables
from protocols.report.audit import audit_section
from protocols.report.budget import budget_section
from protocols.report.calibration import calibration_section
from protocols.report.comparison import accuracy_section
from protocols.report.exported import exported_section
from protocols.report.learning import learning_curve_section, loop_blocks
from protocols.report.optics import Pairs, camera_section, gap_section, live_section, scenes_section
from protocols.report.page import Block, Fold, Picture, Table, Text, short_name
from protocols.report.paper import paper_section
from protocols.report.people import people_section
from protocols.report.tables import Evidence, Made
from protocols.report.twin import twin_section
from protocols.report.video import video_section

FRAMES_BY = {
    "simulated": " (computed by the simulated rig, not by a camera).",
    "emulated": " (through the real drivers, from the bench of the virtual lab).",
    "replayed": " (played back from a recording).",
    "real": ".",
}

MAX_CLASSES = 20
"""More classes make a confusion matrix that nobody can read."""


def _training(evidence: Evidence, pairs: Pairs) -> list[Block]:
    from protocols.report.figures import Curve, curves_figure

    quantities = {
        "loss": ("training loss (nats)", 1.0),
        "val_accuracy": ("validation accuracy (%)", 100.0),
        "aperture_ratio": ("aperture ratio (%)", 100.0),
    }
    instances = {i.key: i for i in evidence.protocol.instances() if i.step.type in ("train", "train_video", "finetune")}
    rows = [row for row in evidence.run.metrics() if row["step"] in instances]
    curves = []
    for name, (label, scale) in quantities.items():
        for key, instance in instances.items():
            seen = sorted(
                (r["index"] + 1, scale * r["values"][name])
                for r in rows
                if r["step"] == key and r["values"].get(name) is not None
            )
            if seen:
                curves.append(
                    Curve(
                        instance.name,
                        instance.design or "–",
                        int(instance.seed or 0),
                        label,
                        [x for x, _ in seen],
                        [y for _, y in seen],
                    )
                )
    if not curves:
        return loop_blocks(evidence)
    return [
        Picture(
            "training",
            curves_figure(curves),
            "Loss and validation accuracy after each epoch, one row per training step"
            + ("; one line per seed" if len(evidence.summary["seeds"]) > 1 else "")
            + ". The aperture ratio is recorded for masks that learn. The loss holds label smoothing and noise, so it "
            "does not reach 0.",
        ),
        *loop_blocks(evidence),
    ]


def _confusion(evidence: Evidence, pairs: Pairs) -> list[Block]:
    from protocols.report.figures import confusion_figure

    found = tables.scores(evidence)
    if not found:
        return []
    names, blocks = evidence.data.class_names, list[Block]()
    last = {score.design: score for score in found}
    named = {step: heading for step, _, heading in tables.columns_of(found)}
    matrices = {}
    for design, score in last.items():
        counts = np.zeros((len(names), len(names)), dtype=np.int64)
        for answers in score.answers.values():
            np.add.at(counts, (answers.labels, answers.predicted), 1)
        matrices[f"{design}, {named[score.step]}"] = counts
    if len(names) > MAX_CLASSES:
        rows = []
        for title, counts in matrices.items():
            wrong = counts * (1 - np.eye(len(names), dtype=np.int64))
            top = np.argsort(-wrong, axis=None, kind="stable")[:5]
            pairs_of = [divmod(int(index), len(names)) for index in top if wrong.flat[index]]
            rows.append([title, "; ".join(f"{names[i]} → {names[j]} ({wrong[i, j]}×)" for i, j in pairs_of) or "none"])
        return [
            Table(
                ["design", "most frequent mistakes (true → answered)"],
                rows,
                f"A matrix of {len(names)} classes could not be read; it is drawn for up to {MAX_CLASSES}.",
                words=True,
            )
        ]
    titles, columns = list(matrices), 1 if len(matrices) == 1 or len(names) > 14 else 2
    step = 3 * columns if columns > 1 else 2
    for number, start in enumerate(range(0, len(titles), step), 1):
        part = {title: matrices[title] for title in titles[start : start + step]}
        caption = (
            (
                "How test items of each class were answered, in percent of the class, all seeds together; empty "
                "cells never occurred."
            )
            if start == 0
            else "More designs, as above."
        )
        png = confusion_figure(part, [short_name(name) for name in names], columns)
        blocks.append(Picture(f"confusion-{number}", png, caption))
    return blocks


def _timing(evidence: Evidence, pairs: Pairs) -> list[Block]:
    from protocols.report.figures import timing_figure

    seconds = {
        name: sum(m.row["seconds"] for m in evidence.made if m.instance.name == name)
        for name in evidence.protocol.steps
    }
    seconds = {name: value for name, value in seconds.items() if any(m.instance.name == name for m in evidence.made)}
    if not seconds:
        return [Text("No step has finished yet.", "missing")]
    counts = {name: sum(m.instance.name == name for m in evidence.made) for name in seconds}
    shown = {f"{name} × {counts[name]}" if counts[name] > 1 else name: value for name, value in seconds.items()}
    captures: list[Made] = [m for m in evidence.of("capture") if m.row["seconds"] > 0]
    steps = "1 finished step" if len(evidence.made) == 1 else f"{len(evidence.made)} finished steps"
    text = f"The {steps} took {tables.duration(sum(seconds.values()))} in all."
    if captures:
        frames, spent = sum(m.row["metrics"]["frames"] for m in captures), sum(m.row["seconds"] for m in captures)
        text += (
            f" Captures kept {frames} frames at {frames / spent:.0f} frames/s, search of the exposure and writing "
            "included" + FRAMES_BY[evidence.rig.nature]
        )
    return [
        Text(text),
        Picture("timing", timing_figure(shown), "Time by step, all attempts added up; this report is not in it."),
    ]


def _provenance(evidence: Evidence, pairs: Pairs) -> list[Block]:
    summary, run = evidence.summary, evidence.run
    facts = [
        ["protocol", summary["name"], summary["protocol_hash"][:16]],
        ["rig", f"{summary['rig']} ({NATURE_WORDS[summary['nature']]})", summary["rig_hash"][:16]],
        *(
            [["data", evidence.protocol.data.type, evidence.protocol.data.fingerprint()[:16]]]
            if evidence.protocol.data
            else []
        ),
        ["seeds", ", ".join(map(str, summary["seeds"])), ""],
        ["versions", ", ".join(f"{name} {version}" for name, version in summary["versions"].items()), ""],
    ]
    blocks: list[Block] = [
        Table(["what", "value", "content hash"], facts, words=True),
        Text("To run it again, from the folder of this run: labctl run protocol.yaml --rig rig.yaml"),
    ]
    blocks += [Text(f"Note of the rig: {note}") for note in summary["rig_notes"]]
    if evidence.rig.file.description:
        blocks.append(Text(f"The rig says of itself: {evidence.rig.file.description}."))
    steps = "\n".join(
        f"{row['status']:<9} {row['hash'][:16]}  {tables.duration(row['seconds']):>12}  {row['name']}  "
        f"{_numbers(row['metrics'])} {row['text']}".rstrip()
        for row in evidence.steps
    )
    blocks.append(Fold(f"Steps with hashes and metrics ({len(evidence.steps)})", steps))
    opened = run.path / "rig-as-opened.json"
    if opened.exists():
        blocks.append(Fold("The rig as it was opened", json.dumps(json.loads(opened.read_text()), indent=2)))
    else:
        blocks.append(Text("The rig was not opened in this run."))
    blocks.append(Fold("Resolved protocol", run.protocol_file.read_text()))
    blocks.append(Fold("Resolved rig", run.rig_file.read_text()))
    return blocks


Part = tuple[str, str, Callable[[Evidence, Pairs], list[Block]]]
"""Anchor, title and the function that writes a section."""

PARTS: tuple[Part, ...] = (
    ("accuracy", "Accuracy", accuracy_section),
    ("paper", "Beside the paper", paper_section),
    ("privacy", "What attackers get", audit_section),
    ("people", "What people see", people_section),
    ("video", "Clips, before and after the encoder", video_section),
    ("camera", "The camera", camera_section),
    ("scenes", "What it sees", scenes_section),
    ("live", "Live scenes and answers", live_section),
    ("exported", "Exported mask", exported_section),
    ("gap", "From simulation to the rig", gap_section),
    ("calibration", "Calibration", calibration_section),
    ("twin", "Fitted twin", twin_section),
    ("budget", "Error budget", budget_section),
    ("training", "Training", _training),
    ("learning-curve", "Learning curve", learning_curve_section),
    ("confusion", "Confusion", _confusion),
    ("timing", "Timing", _timing),
    ("provenance", "Provenance", _provenance),
)
"""Order of the page. The frame pairs that `scenes_section` makes are used again by `gap_section`."""


def _numbers(metrics: Mapping[str, Any]) -> str:
    return " ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in metrics.items() if v is not None)
