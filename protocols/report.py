"""`report`: one self-contained page that says what a run did, found and left open."""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from labctl.durable import read_lines, write_whole
from labctl.errors import RunFailed
from labctl.frames.ledger import read_capture
from labctl.steps import Estimate, Step, StepContext, StepResult, StepSetting
from labctl.store import RunFolder
from protocols import report_tables as tables
from protocols.report_tables import Evidence, FramePairs, Made, Score

MAX_CLASSES = 20
"""More classes make a confusion matrix that nobody can read."""

CAMERAS_PER_FIGURE = 5
SHOWN_DESIGNS = 12
"""Histograms and scenes are shown for so many designs at most; tables hold all."""


@dataclass(frozen=True)
class Text:
    """A paragraph. kind: `text`, or `missing` for what is not there."""

    text: str
    kind: str = "text"


@dataclass(frozen=True)
class Table:
    """A table; the first column names the row."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    words: bool = False
    """Cells hold words and stand left; else numbers, which stand right."""

    kind: str = "table"


@dataclass(frozen=True)
class Picture:
    """A figure as PNG with its caption. Half ones stand side by side."""

    name: str
    png: bytes
    caption: str
    half: bool = False
    kind: str = "picture"

    @property
    def uri(self) -> str:
        """The picture as text that a page can hold."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode()

    @property
    def width_percent(self) -> float:
        """Width on the page, so that letters have the same size in all figures."""
        from protocols.report_figures import DPI, PAGE_IN

        pixels = int.from_bytes(self.png[16:20], "big")
        return min(100.0, 100 * pixels / DPI / PAGE_IN)


@dataclass(frozen=True)
class Fold:
    """A long text behind a click; open on paper it would fill pages, so it stays closed there."""

    title: str
    text: str
    kind: str = "fold"


Block = Text | Table | Picture | Fold


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it."""

    anchor: str
    title: str
    blocks: list[Block] = field(default_factory=list)

    @property
    def runs(self) -> list[tuple[bool, list[Block]]]:
        """The blocks in order, neighbouring half pictures (True) taken together."""
        return [(half, list(group)) for half, group in groupby(self.blocks, lambda block: getattr(block, "half", False))]


class Report(Step):
    """Writes `report.html` in the run folder, and its figures as PNG files in the folder of the step.

    Only facts of finished steps are told. A part that cannot be made is named with its reason instead.
    """

    where: ClassVar[Literal["host", "child"]] = "child"
    once: ClassVar[bool] = True
    outputs: ClassVar[Mapping[str, str]] = {"report": "report"}
    modules: ClassVar[tuple[str, ...]] = ("torch", "jinja2", "protocols.report_figures", "sim.twin")

    type: Literal["report"]

    def estimate(self, setting: StepSetting) -> Estimate:
        """Compute only."""
        return Estimate(seconds=4, disk_bytes=2 * 2**20)

    def run(self, context: StepContext) -> StepResult:
        """Read the run folder as it stands and write the page."""
        from protocols.training_loop import prepare_torch

        prepare_torch()
        missing = write_report(RunFolder(context.run_folder), context.folder)
        for text in missing:
            context.log(text)
        return StepResult({"report": context.run_folder / "report.html"}, {"missing_parts": len(missing)})


def write_report(run: RunFolder, figures: Path) -> list[str]:
    """Write the report of a run folder in any state, and its figures into `figures`. Returns what could not be made."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    evidence = tables.read_evidence(run)
    pairs: dict[str, list[FramePairs]] = {}
    sections, missing = [], list[str]()
    for anchor, title, write in PARTS:
        section = Section(anchor, title)
        try:
            section.blocks.extend(write(evidence, pairs))
        except Exception as error:  # noqa: BLE001 - one part must not take the others with it; the page says what is missing
            reason = str(error) if isinstance(error, RunFailed) else f"{type(error).__name__}: {error}"
            missing.append(f"report: '{title}' could not be made: {reason}")
            section.blocks.append(Text(f"This part could not be made: {reason}.", "missing"))
        if section.blocks:
            sections.append(section)
    figures.mkdir(parents=True, exist_ok=True)
    for picture in (block for section in sections for block in section.blocks if isinstance(block, Picture)):
        write_whole(figures / f"{picture.name}.png", picture.png)
    environment = Environment(
        loader=PackageLoader("protocols", "templates"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    page = environment.get_template("report.html.j2").render(sections=sections, **_title(evidence))
    write_whole(run.report_file, page)
    return missing


# The head of the page


def _title(evidence: Evidence) -> dict[str, Any]:
    summary = evidence.summary
    done = sum(row["status"] == "finished" for row in evidence.steps)
    total, ended = len(evidence.steps), summary["status"]
    status = f"finished: all {total} steps" if done == total else f"incomplete: {done} of {total} steps finished"
    if ended in ("failed", "stopped"):
        status = f"{ended}: {done} of {total} steps finished" + (f"; {summary['reason']}" if summary["reason"] else "")
    try:
        lead, second = _headline(tables.scores(evidence), evidence.rig.name)
    except (RunFailed, OSError, KeyError, ValueError) as error:
        lead, second = "The evaluations could not be read.", str(error)
    return {
        "name": summary["name"], "description": evidence.protocol.file.description, "rig": summary["rig"],
        "simulated": summary["simulated"], "status": status, "complete": done == total and ended in ("running", "finished"),
        "began": _moment(summary["began"]), "made": _moment(time.time()), "headline": lead, "second": second,
        "designs": ", ".join(evidence.protocol.compared) or "none",
        "seeds": ", ".join(str(seed) for seed in summary["seeds"]),
    }  # fmt: skip


def _headline(found: Sequence[Score], rig: str) -> tuple[str, str]:
    """Two sentences from the numbers: what was reached, and by how much it leads."""
    if not found:
        return f"A run on rig {rig} without an evaluation.", ""
    last = found[-1].step
    finals = sorted((s for s in found if s.step == last), key=lambda s: -s.interval.mean)
    best = finals[0]
    line = [s for s in found if s.design == best.design]
    told = " → ".join(f"{tables.short_percent(s.interval)} {tables.STAGE_WORDS[s.stage]}" for s in line)
    majority = best.mean("majority")
    lead = f"{best.design}: {told} (majority {tables.share(majority)})."
    if len(finals) == 1:
        return lead, ""
    second = finals[1]
    gap, _ = tables.difference(best, second)
    words = tables.STAGE_WORDS[best.stage]
    if gap.low > 0:
        told = f"ahead of {second.design} by {tables.points(gap)} points"
    else:
        told = f"but not told apart from {second.design}: the difference is {tables.points(gap)} points"
    return lead, f"{best.design} is the highest of {len(finals)} designs {words}, {told} (paired, 95 % interval)."


# Sections. Each takes the evidence and the frame pairs made so far, and returns blocks; no blocks, no section.

Pairs = dict[str, list[FramePairs]]


def _accuracy(evidence: Evidence, pairs: Pairs) -> list[Block]:
    from protocols.report_figures import Dot, accuracy_figure

    found = tables.scores(evidence)
    if not found:
        return [Text("No evaluation has finished, so there is no accuracy to tell.", "missing")]
    columns = tables.columns_of(found)
    by_place = {(score.design, score.step): score for score in found}
    designs = [design for design in evidence.designs if any(s.design == design for s in found)]
    rows = []
    for design in designs:
        own = [by_place.get((design, step)) for step, _, _ in columns]
        here = [score for score in own if score is not None]
        tests = sorted({len(a.labels) for score in here for a in score.answers.values()})
        rows.append([
            design, *("–" if s is None else tables.percent(s.interval) for s in own), tables.share(here[0].mean("majority")),
            " or ".join(map(str, tests)), tables.share(here[0].mean("aperture_ratio")),
            tables.share(here[0].mean("light_throughput")), _blur(here),
        ])  # fmt: skip
    head = ["design", *(heading for _, _, heading in columns), "majority", "test items", "aperture", "light",
            "blurriness: simulated (noise-free) · captured"]  # fmt: skip
    seeds = sorted({seed for score in found for seed in score.answers})
    dots = [
        Dot(s.design, s.stage, next(h for step, _, h in columns if step == s.step), s.interval.mean, s.interval.low,
            s.interval.high, tuple(float(a.correct.mean()) for a in s.answers.values()))
        for s in found
    ]  # fmt: skip
    majority = sorted({round(m["majority"], 6) for s in found for m in s.metrics.values()})
    over = f"means over {len(seeds)} seeds" if len(seeds) > 1 else f"seed {seeds[0]}"
    blocks: list[Block] = [
        Text(_meaning(evidence)),
        Table(head, rows, f"Test accuracy, {over}, with 95 % bootstrap intervals over test items. The interval says how these "
              "trained cameras would do on other items of the same kind; what other training seeds would bring is not "
              "in it. It has no width where every answer was right. Intervals wider than 10 points are written without "
              "decimals. Majority: always naming the most frequent training class. Aperture: mean transmittance of the "
              "mask; light: what passes it after panel and optics, against the open mask. Blurriness: 0 sharp to 1 "
              "[Crete et al. 2007], with noise; noise looks sharp, so the noise-free value stands beside it."),
        Picture("accuracy", accuracy_figure(dots, majority), "Test accuracy by design. Marks are means over seeds, bars "
                "95 % intervals" + (", small dots single seeds" if len(seeds) > 1 else "") + "; dashed: majority baseline."),
    ]  # fmt: skip
    told = {design: tables.changes(found, design) for design in designs}
    words = list(dict.fromkeys(word for change in told.values() for word in change))
    if words:
        rows = [[d, *(tables.points(c[w][0]) if w in c else "–" for w in words),
                 str(min(n for _, n in c.values()))] for d, c in told.items() if c]  # fmt: skip
        blocks.append(Table(["design", *words, "paired items"], rows, "Differences of accuracy in percentage points, with "
                            "95 % intervals. Paired: both stages answered the same test items of the same seed. Lost: as "
                            "captured minus simulated. Regained: after fine-tuning minus as captured. Left: after "
                            "fine-tuning minus simulated. An interval that holds 0 shows no difference."))  # fmt: skip
    return blocks


def _blur(here: Sequence[Score]) -> str:
    simulated = next((s for s in here if s.stage == "simulated"), None)
    captured = next((s for s in here if s.stage != "simulated"), None)
    first, clean = (None, None) if simulated is None else (simulated.mean("blurriness"), simulated.mean("blurriness_noise_free"))
    second = None if captured is None else captured.mean("blurriness")
    text = [("–" if value is None else f"{value:.2f}") for value in (first, clean, second)]
    return f"{text[0]} ({text[1]}) · {text[2]}"


def _meaning(evidence: Evidence) -> str:
    rig, name = evidence.rig, evidence.rig.name
    if not rig.simulated:
        return (f"“Simulated” is measured in the twin, the model of rig {name} that training uses. “Captured” is measured by "
                f"the camera of the REAL rig {name}.")  # fmt: skip
    world = getattr(rig.world, "type", None)
    truth = {"nominal": "whose world is the twin itself, with noise",
             "as-built": "whose errors (alignment, panel response, stray light, fixed pattern) the trainer does not know",
             }.get(str(world), f"whose world is '{world}'")  # fmt: skip
    return (f"No light was involved: “captured” means measured on the simulated rig '{name}', {truth}. “Simulated” is measured "
            "in the twin that training uses; “fine-tuned” after learning on from captured training frames.")  # fmt: skip


def _camera(evidence: Evidence, pairs: Pairs) -> list[Block]:
    import torch

    from protocols.report_figures import CameraView, camera_figure, masks_figure
    from protocols.simulation import Simulation

    makers = [(made, name) for made in evidence.made for name, kind in type(made.instance.step).outputs.items()
              if kind == "mask" and name in made.row["outputs"]]  # fmt: skip
    if not makers:
        return []
    optics, sensor = evidence.rig.twin.optics, evidence.rig.twin.sensor
    roads, mask_mm = evidence.rig.roads, 1e3 * optics.mask_pitch_m
    twin = Simulation(evidence.rig, fill=1.0).twin
    views, masks = dict[str, CameraView](), dict[tuple[str, int], Any]()
    for made, output in makers:
        mask = np.load(made.path(output))
        masks.setdefault((made.design, int(made.instance.seed or 0)), mask)
        if made.design in views:
            continue
        whites = [m for m in evidence.of("display") if (m.instance.design, m.instance.seed) == (made.instance.design, made.instance.seed)]
        views[made.design] = CameraView(
            made.design, mask, roads.mask.levels(mask), twin.psf(torch.from_numpy(mask)).detach().numpy(),
            np.load(whites[0].path("white")) if whites else None, mask_mm, mask_mm / roads.mask.cell_px, 1e3 * sensor.pitch_m,
        )  # fmt: skip
    where = f"{evidence.rig.name}{' (simulated)' if evidence.rig.simulated else ''}"
    seed = next(iter(masks))[1]
    whites_there = any(view.white is not None for view in views.values())
    blocks: list[Block] = []
    shown = list(views.values())
    for number, start in enumerate(range(0, len(shown), CAMERAS_PER_FIGURE), 1):
        caption = (f"Mask as designed; levels sent to the SLM (gamma {roads.mask.gamma:g} taken out, {roads.mask.cell_px} panel "
                   "pixels per cell); shadow that a point of the scene casts on the sensor in the twin, in units of an open "
                   "sensor pixel, each on its own scale"
                   + (f"; a white scene through the mask, measured on {where}" if whites_there else "")
                   + f". Seed {seed}.") if start == 0 else "More cameras, as above."  # fmt: skip
        blocks.append(Picture(f"cameras-{number}", camera_figure(shown[start : start + CAMERAS_PER_FIGURE]), caption))
    moved = {name for name, _ in masks if len({masks[key].tobytes() for key in masks if key[0] == name}) > 1}
    if moved:
        chosen = {key: mask for key, mask in masks.items() if key[0] in moved}
        seeds = sorted({s for _, s in chosen})[:6]
        chosen = {key: mask for key, mask in chosen.items() if key[1] in seeds}
        blocks.append(Picture("masks-by-seed", masks_figure(chosen, mask_mm), "Masks that differ between seeds: white is open."))
    return blocks


def _scenes(evidence: Evidence, pairs: Pairs) -> list[Block]:
    from protocols.report_figures import scenes_figure

    designs = [d for d in evidence.designs if any(m.design == d for m in (*evidence.of("train"), *evidence.of("capture")))]
    if not designs:
        return []
    for design in designs:
        pairs[design] = list(tables.frame_pairs(evidence, design))
    half, wanted = len(designs) > 1, {1: 6, 2: 4}.get(len(designs), 3)
    optics = evidence.rig.twin.optics
    names = evidence.data.class_names
    blocks: list[Block] = [Text(
        "The same test scenes, from left to right: as shown, ideal (the twin without noise), simulated (with one draw of "
        "photon, dark and read noise), and captured. Within a row all three frames share one grey scale in DN, so a "
        "difference of exposure or black level is seen as such.")]  # fmt: skip
    for design in designs[:SHOWN_DESIGNS]:
        pair = pairs[design][0]
        rows = tables.one_per_class(pair.labels, wanted)
        panels = {"ideal, noise-free": pair.ideal[rows], "simulated": pair.noisy[rows]}
        exposure = f"Exposure {_ms(pair.simulated_exposure_s)} in simulation"
        if pair.captured is not None and pair.captured_exposure_s is not None:
            panels["captured"] = pair.captured[rows]
            exposure += f", {_ms(pair.captured_exposure_s)} on the rig"
        png = scenes_figure(pair.scenes[rows], panels, [_short(names[pair.labels[row]]) for row in rows],
                            1e3 * evidence.rig.twin.sensor.pitch_m, 1e3 * optics.scene_pitch_m, half)  # fmt: skip
        blocks.append(Picture(f"scenes-{_file_name(design)}", png, f"{design}, seed {pair.seed}. {exposure}.", half))
    if len(designs) > SHOWN_DESIGNS:
        blocks.append(Text(f"The other {len(designs) - SHOWN_DESIGNS} designs are left out here."))
    if not any(pair.captured is not None for own in pairs.values() for pair in own):
        blocks.append(Text("No capture has finished, so there are no captured frames.", "missing"))
    return blocks


def _live(evidence: Evidence, pairs: Pairs) -> list[Block]:
    from protocols.report_figures import live_figure

    blocks: list[Block] = []
    for made in evidence.of("operator"):
        answers = [[row.get("prompt") or f"'{row.get('label')}', take {row.get('take', 0) + 1}", row["answer"]]
                   for row in read_lines(made.folder / "answers.jsonl")]  # fmt: skip
        if "frames" not in made.row["outputs"]:
            blocks.append(Table([f"{made.instance.key}: asked", "answer"], answers, words=True))
            continue
        captured = read_capture(made.path("frames"))
        labels = captured.column("label_name")
        rows = [[str(name), str(int((labels == name).sum())), f"{captured.pixels[labels == name].mean():.0f}"]
                for name in dict.fromkeys(labels.tolist())]  # fmt: skip
        refused = made.row["metrics"]["refused"]
        blocks.append(Table(["label", "frames kept", "mean (DN)"], rows, f"{made.instance.key}: live scenes presented by the "
                            f"operator; {refused} frames were refused and taken again."))  # fmt: skip
        first = {str(n): np.asarray(captured.pixels[np.flatnonzero(labels == n)[0], 0]) for n in dict.fromkeys(labels.tolist())}
        shown = dict(list(first.items())[:SHOWN_DESIGNS])
        blocks.append(Picture(f"live-{_file_name(made.instance.key)}", live_figure(shown, 1e3 * evidence.rig.twin.sensor.pitch_m),
                              "First kept frame of each label, one grey scale for all."))  # fmt: skip
    return blocks


def _gap(evidence: Evidence, pairs: Pairs) -> list[Block]:
    from protocols.report_figures import histogram_figure

    with_captures = {d: [p for p in own if p.captured is not None] for d, own in pairs.items()}
    with_captures = {design: own for design, own in with_captures.items() if own}
    if not with_captures:
        return []
    sensor = evidence.rig.twin.sensor
    rows, shown = [], {}
    for design, own in with_captures.items():
        gap, first = tables.gap_of(own, sensor.black_level_dn), own[0]
        rows.append([
            design, f"{_ms(first.simulated_exposure_s)} · {_ms(first.captured_exposure_s or 0)}",
            f"{gap.simulated_mean:.0f} · {gap.captured_mean:.0f}", f"{gap.simulated_std:.0f} · {gap.captured_std:.0f}",
            f"{gap.rms:.0f} ({100 * gap.rms / sensor.top_dn:.1f} %)", f"{gap.matched_rms:.0f} ({100 * gap.matched_rms / sensor.top_dn:.1f} %)",
            f"{gap.noise_rms:.0f}", f"{gap.scenes} × {gap.seeds}",
        ])  # fmt: skip
        if len(shown) < SHOWN_DESIGNS:
            shown[design] = (np.stack([p.ideal for p in own[:1]]), np.stack([p.captured for p in own[:1] if p.captured is not None]))
    table = Table(
        ["design", "exposure: sim · rig", "mean (DN): sim · rig", "std (DN): sim · rig", "RMS difference (DN)",
         "RMS, exposure matched (DN)", "noise alone (DN)", "scenes × seeds"], rows,
        f"Captured against noise-free simulated frames of the same test scenes, over all pixels; percent of full scale "
        f"({sensor.top_dn} DN). Real captures have another mean and another contrast than their simulation, hence both stand "
        "here as they are. Exposure times differ because each side exposes a white scene to its own fill; “exposure matched” "
        f"scales the captured signal above the data-sheet black level ({sensor.black_level_dn:g} DN) by the ratio of the "
        "exposure times. Exposures are those of the first seed. “Noise alone” is the RMS that simulated noise adds to the "
        "same frames: a perfect model would still differ by about so much.",
    )  # fmt: skip
    seed = next(iter(with_captures.values()))[0].seed
    picture = Picture("histograms", histogram_figure(shown, sensor.top_dn), "Pixel values of the compared frames, simulated "
                      f"without noise and captured, seed {seed}. Vertical lines: means.")  # fmt: skip
    found = tables.scores(evidence)
    told = [(design, tables.changes(found, design)) for design in with_captures]
    lines = [f"{d}: {tables.points(c['lost on the rig'][0])} before"
             + (f", {tables.points(c['left of the gap'][0])} after fine-tuning" if "left of the gap" in c else "")
             for d, c in told if "lost on the rig" in c]  # fmt: skip
    blocks: list[Block] = [table, picture]
    if lines:
        blocks.append(Text("Accuracy against simulation, in points with paired 95 % intervals. " + "; ".join(lines) + "."))
    return blocks


def _training(evidence: Evidence, pairs: Pairs) -> list[Block]:
    from protocols.report_figures import Curve, curves_figure

    quantities = {"loss": ("training loss (nats)", 1.0), "val_accuracy": ("validation accuracy (%)", 100.0),
                  "aperture_ratio": ("aperture ratio (%)", 100.0)}  # fmt: skip
    instances = {i.key: i for i in evidence.protocol.instances() if i.step.type in ("train", "finetune")}
    rows = [row for row in evidence.run.metrics() if row["step"] in instances]
    curves = []
    for name, (label, scale) in quantities.items():
        for key, instance in instances.items():
            seen = sorted((r["index"] + 1, scale * r["values"][name]) for r in rows
                          if r["step"] == key and r["values"].get(name) is not None)  # fmt: skip
            if seen:
                curves.append(Curve(instance.name, instance.design or "–", int(instance.seed or 0), label,
                                    [x for x, _ in seen], [y for _, y in seen]))  # fmt: skip
    if not curves:
        return []
    return [Picture("training", curves_figure(curves), "Loss and validation accuracy after each epoch, one row per training step"
                    + ("; one line per seed" if len(evidence.summary["seeds"]) > 1 else "")
                    + ". The aperture ratio is recorded for masks that learn. The loss holds label smoothing and noise, so it "
                    "does not reach 0.")]  # fmt: skip


def _confusion(evidence: Evidence, pairs: Pairs) -> list[Block]:
    from protocols.report_figures import confusion_figure

    found = tables.scores(evidence)
    if not found:
        return []
    names, blocks = evidence.data.class_names, list[Block]()
    last = {score.design: score for score in found}
    matrices = {}
    for design, score in last.items():
        counts = np.zeros((len(names), len(names)), dtype=np.int64)
        for answers in score.answers.values():
            np.add.at(counts, (answers.labels, answers.predicted), 1)
        matrices[f"{design}, {tables.STAGE_WORDS[score.stage]}"] = counts
    if len(names) > MAX_CLASSES:
        rows = []
        for title, counts in matrices.items():
            wrong = counts * (1 - np.eye(len(names), dtype=np.int64))
            top = np.argsort(-wrong, axis=None, kind="stable")[:5]
            pairs_of = [divmod(int(index), len(names)) for index in top if wrong.flat[index]]
            rows.append([title, "; ".join(f"{names[i]} → {names[j]} ({wrong[i, j]}×)" for i, j in pairs_of) or "none"])
        return [Table(["design", "most frequent mistakes (true → answered)"], rows, f"A matrix of {len(names)} classes could not "
                      f"be read; it is drawn for up to {MAX_CLASSES}.", words=True)]  # fmt: skip
    titles = list(matrices)
    for number, start in enumerate(range(0, len(titles), 4), 1):
        part = {title: matrices[title] for title in titles[start : start + 4]}
        caption = ("How test items of each class were answered, in percent of the class, all seeds together; empty cells never "
                   "occurred.") if start == 0 else "More designs, as above."  # fmt: skip
        blocks.append(Picture(f"confusion-{number}", confusion_figure(part, [_short(name) for name in names]), caption))
    return blocks


def _timing(evidence: Evidence, pairs: Pairs) -> list[Block]:
    from protocols.report_figures import timing_figure

    seconds = {name: sum(m.row["seconds"] for m in evidence.made if m.instance.name == name) for name in evidence.protocol.steps}
    seconds = {name: value for name, value in seconds.items() if any(m.instance.name == name for m in evidence.made)}
    if not seconds:
        return [Text("No step has finished yet.", "missing")]
    counts = {name: sum(m.instance.name == name for m in evidence.made) for name in seconds}
    shown = {f"{name} × {counts[name]}" if counts[name] > 1 else name: value for name, value in seconds.items()}
    captures: list[Made] = [m for m in evidence.of("capture") if m.row["seconds"] > 0]
    text = f"The {len(evidence.made)} finished steps took {tables.duration(sum(seconds.values()))} in all."
    if captures:
        frames, spent = sum(m.row["metrics"]["frames"] for m in captures), sum(m.row["seconds"] for m in captures)
        text += (f" Captures kept {frames} frames at {frames / spent:.0f} frames/s, search of the exposure and writing included"
                 + (" (computed by the simulated rig, not by a camera)." if evidence.rig.simulated else "."))  # fmt: skip
    return [Text(text), Picture("timing", timing_figure(shown), "Time by step, all attempts added up; this report is not in it.")]


def _provenance(evidence: Evidence, pairs: Pairs) -> list[Block]:
    summary, run = evidence.summary, evidence.run
    facts = [
        ["protocol", summary["name"], summary["protocol_hash"][:16]],
        ["rig", summary["rig"] + (" (simulated)" if summary["simulated"] else " (REAL)"), summary["rig_hash"][:16]],
        *([["data", evidence.protocol.data.type, evidence.protocol.data.fingerprint()[:16]]] if evidence.protocol.data else []),
        ["seeds", ", ".join(map(str, summary["seeds"])), ""],
        *([name, str(version), ""] for name, version in summary["versions"].items()),
    ]  # fmt: skip
    blocks: list[Block] = [
        Table(["what", "value", "content hash"], facts, words=True),
        Text("To run it again, from the folder of this run: labctl run protocol.yaml --rig rig.yaml"),
    ]
    blocks += [Text(f"Note of the rig: {note}") for note in summary["rig_notes"]]
    if evidence.rig.file.description:
        blocks.append(Text(f"The rig says of itself: {evidence.rig.file.description}."))
    steps = "\n".join(f"{row['status']:<9} {row['hash'][:16]}  {tables.duration(row['seconds']):>12}  {row['name']}  "
                      f"{_numbers(row['metrics'])} {row['text']}".rstrip() for row in evidence.steps)  # fmt: skip
    blocks.append(Fold(f"Steps with hashes and metrics ({len(evidence.steps)})", steps))
    opened = run.path / "rig-as-opened.json"
    if opened.exists():
        blocks.append(Fold("The rig as it was opened", json.dumps(json.loads(opened.read_text()), indent=2)))
    else:
        blocks.append(Text("The rig was not opened in this run."))
    blocks.append(Fold("Resolved protocol", run.protocol_file.read_text()))
    blocks.append(Fold("Resolved rig", run.rig_file.read_text()))
    return blocks


PARTS: tuple[tuple[str, str, Callable[[Evidence, Pairs], list[Block]]], ...] = (
    ("accuracy", "Accuracy", _accuracy),
    ("camera", "The camera", _camera),
    ("scenes", "What it sees", _scenes),
    ("live", "Live scenes and answers", _live),
    ("gap", "From simulation to the rig", _gap),
    ("training", "Training", _training),
    ("confusion", "Confusion", _confusion),
    ("timing", "Timing", _timing),
    ("provenance", "Provenance", _provenance),
)
"""Order of the page. The frame pairs that `_scenes` makes are used again by `_gap`."""


def _numbers(metrics: Mapping[str, Any]) -> str:
    return " ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in metrics.items() if v is not None)


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.3g} ms"


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M %Z", time.localtime(seconds))


def _short(name: str, limit: int = 16) -> str:
    text = name.replace("_", " ")
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _file_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9-]+", "-", text).strip("-") or "design"
