"""Sections of a report that show light: the camera, what it sees, and how far captured frames are from simulation."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from labctl.durable import read_lines
from labctl.errors import LabctlError
from labctl.frames.store import FrameStore
from protocols.report import tables
from protocols.report.page import Block, Picture, Table, Text, short_name
from protocols.report.tables import Evidence, FramePairs

CAMERAS_PER_FIGURE = 5
SHOWN_DESIGNS = 12
"""Histograms and scenes are shown for so many designs at most; tables hold all."""

Pairs = dict[str, list[FramePairs]]
"""Frames of every design, made once and used by several sections."""


def camera_section(evidence: Evidence, pairs: Pairs) -> list[Block]:
    """Masks, what the SLM shows, the shadow of a point, and the white frame."""
    import torch

    from protocols.report.pictures import CameraView, camera_figure, masks_figure
    from protocols.simulation import ExposureRule, Simulation

    makers = [
        (made, name)
        for made in evidence.made
        for name, kind in type(made.instance.step).outputs.items()
        if kind == "mask" and name in made.row["outputs"]
    ]
    if not makers:
        return []
    optics, sensor = evidence.rig.twin.optics, evidence.rig.twin.sensor
    roads, mask_mm = evidence.rig.roads, 1e3 * optics.mask_pitch_m
    views, masks = dict[str, CameraView](), dict[tuple[str, int], Any]()
    bare = drawn = False
    for made, output in makers:
        mask = np.load(made.path(output))
        masks.setdefault((made.design, int(made.instance.seed or 0)), mask)
        if made.design in views:
            continue
        design = tables.design_of(evidence, made)
        bare, drawn = bare or not design.on_panel, drawn or design.dynamic
        whites = [
            m
            for m in evidence.of("display")
            if (m.instance.design, m.instance.seed) == (made.instance.design, made.instance.seed)
        ]
        views[made.design] = CameraView(
            made.design,
            mask,
            roads.mask.levels(mask) if design.on_panel else None,
            Simulation(evidence.rig, ExposureRule(fill=1.0), design=design).psf(torch.from_numpy(mask)).numpy(),
            np.load(whites[0].path("white")) if whites else None,
            mask_mm,
            mask_mm / roads.mask.cell_px,
            1e3 * sensor.pitch_m,
        )
    where = f"{evidence.rig.name}{'' if evidence.rig.nature == 'real' else f' ({evidence.rig.nature})'}"
    seed = next(iter(masks))[1]
    whites_there = any(view.white is not None for view in views.values())
    blocks: list[Block] = []
    shown = list(views.values())
    for number, start in enumerate(range(0, len(shown), CAMERAS_PER_FIGURE), 1):
        caption = (
            (
                f"Mask as designed; levels sent to the SLM (gamma {roads.mask.gamma:g} taken out, "
                f"{roads.mask.cell_px} panel pixels per cell); shadow that a point of the scene casts on the sensor "
                "in the twin, in units of an open sensor pixel, each on its own scale"
                + (f"; a white scene through the mask, measured on {where}" if whites_there else "")
                + (". Optics that no panel shows have no levels; they are drawn as weights" if bare else "")
                + (". Of a dynamic mask, the pattern that stands for all" if drawn else "")
                + f". Seed {seed}."
            )
            if start == 0
            else "More cameras, as above."
        )
        blocks.append(Picture(f"cameras-{number}", camera_figure(shown[start : start + CAMERAS_PER_FIGURE]), caption))
    moved = {name for name, _ in masks if len({masks[key].tobytes() for key in masks if key[0] == name}) > 1}
    if moved:
        chosen = {key: mask for key, mask in masks.items() if key[0] in moved}
        seeds = sorted({s for _, s in chosen})[:6]
        chosen = {key: mask for key, mask in chosen.items() if key[1] in seeds}
        blocks.append(
            Picture("masks-by-seed", masks_figure(chosen, mask_mm), "Masks that differ between seeds: white is open.")
        )
    return blocks


def scenes_section(evidence: Evidence, pairs: Pairs) -> list[Block]:
    """Test scenes beside their frames; fills `pairs` for `gap_section`."""
    from protocols.report.pictures import scenes_figure

    designs = [
        d for d in evidence.designs if any(m.design == d for m in (*evidence.of("train"), *evidence.of("capture")))
    ]
    if not designs:
        return []
    lost: list[Block] = []
    for design in designs:
        try:
            pairs[design] = list(tables.frame_pairs(evidence, design))
        except LabctlError as error:  # a damaged capture of one design says nothing against the others
            lost.append(Text(f"{design}: frames cannot be shown or compared: {error}.", "missing"))
    designs = [design for design in designs if design in pairs]
    if not designs:
        return lost
    half, wanted = len(designs) > 1, {1: 6, 2: 4}.get(len(designs), 3)
    optics, (scene_px, cells) = evidence.rig.twin.optics, evidence.protocol.grids()
    pitch_mm, raw_px = 1e3 * evidence.rig.twin.sensor.pitch_m, evidence.rig.twin.frame_shape(cells, scene_px)[1]
    names = evidence.data.class_names
    blocks: list[Block] = [
        Text(
            "The same test scenes, from left to right: as shown, ideal (the twin without noise), simulated (with "
            "one draw of photon, dark and read noise), and captured, each as the design reads it out. Within a row all "
            "three frames share one grey scale in DN, so a difference of exposure or black level is seen as such."
        )
    ]
    for design in designs[:SHOWN_DESIGNS]:
        pair = pairs[design][0]
        rows = tables.one_per_class(pair.labels, wanted)
        panels = {"ideal, noise-free": pair.ideal[rows], "simulated": pair.noisy[rows]}
        exposure = f"Exposure {tables.ms(pair.simulated_exposure_s)} in simulation"
        if pair.captured is not None and pair.captured_exposure_s is not None:
            panels["captured"] = pair.captured[rows]
            exposure += f", {tables.ms(pair.captured_exposure_s)} on the rig"
        png = scenes_figure(
            pair.scenes[rows],
            panels,
            [short_name(names[pair.labels[row]]) for row in rows],
            pitch_mm * raw_px / pair.ideal.shape[-1],
            1e3 * optics.scene_pitch_m,
            half,
        )
        blocks.append(Picture(f"scenes-{file_name(design)}", png, f"{design}, seed {pair.seed}. {exposure}.", half))
    if len(designs) > SHOWN_DESIGNS:
        blocks.append(Text(f"The other {len(designs) - SHOWN_DESIGNS} designs are left out here."))
    if not any(pair.captured is not None for own in pairs.values() for pair in own):
        blocks.append(Text("No capture has finished, so there are no captured frames.", "missing"))
    return blocks + lost


def live_section(evidence: Evidence, pairs: Pairs) -> list[Block]:
    """What an operator presented and answered."""
    from protocols.report.pictures import live_figure

    blocks: list[Block] = []
    for made in evidence.of("operator"):
        answers = [
            [row.get("prompt") or f"'{row.get('label')}', take {row.get('take', 0) + 1}", row["answer"]]
            for row in read_lines(made.folder / "answers.jsonl")
        ]
        if "frames" not in made.row["outputs"]:
            blocks.append(Table([f"{made.instance.key}: asked", "answer"], answers, words=True))
            continue
        captured = FrameStore.open(made.path("frames"))
        captured.check_whole()
        labels = captured.column("label_name")
        rows, first = [], {}
        for name in dict.fromkeys(labels.tolist()):
            places = np.flatnonzero(labels == name)
            mean_dn = np.mean([captured.frame(int(place)).mean() for place in places])
            rows.append([str(name), str(len(places)), f"{mean_dn:.0f}"])
            first[str(name)] = captured.frame(int(places[0]))[0]
        refused = made.row["metrics"]["refused"]
        blocks.append(
            Table(
                ["label", "frames kept", "mean (DN)"],
                rows,
                f"{made.instance.key}: live scenes presented by the operator; {refused} frames were refused and "
                "taken again.",
            )
        )
        shown = dict(list(first.items())[:SHOWN_DESIGNS])
        blocks.append(
            Picture(
                f"live-{file_name(made.instance.key)}",
                live_figure(shown, 1e3 * evidence.rig.twin.sensor.pitch_m),
                "First kept frame of each label, one grey scale for all.",
            )
        )
    return blocks


def gap_section(evidence: Evidence, pairs: Pairs) -> list[Block]:
    """How captured frames differ from simulated ones, in DN and in accuracy."""
    from protocols.report.figures import histogram_figure

    with_captures = {d: [p for p in own if p.captured is not None] for d, own in pairs.items()}
    with_captures = {design: own for design, own in with_captures.items() if own}
    if not with_captures:
        return []
    sensor = evidence.rig.twin.sensor
    rows, shown = [], {}
    for design, own in with_captures.items():
        gap, first = tables.gap_of(own, sensor.black_level_dn), own[0]
        rows.append(
            [
                design,
                f"{tables.ms(first.simulated_exposure_s)} · {tables.ms(first.captured_exposure_s or 0)}",
                f"{gap.simulated_mean:.0f} · {gap.captured_mean:.0f}",
                f"{gap.simulated_std:.0f} · {gap.captured_std:.0f}",
                f"{gap.rms:.0f} ({100 * gap.rms / sensor.top_dn:.1f} %)",
                f"{gap.fitted_rms:.0f} ({100 * gap.fitted_rms / sensor.top_dn:.1f} %)",
                f"{gap.noise_rms:.0f}",
                f"{gap.light_ratio:.2f}",
                f"{gap.scenes} × {gap.seeds}",
            ]
        )
        if len(shown) < SHOWN_DESIGNS:
            shown[design] = (
                np.stack([p.ideal for p in own[:1]]),
                np.stack([p.captured for p in own[:1] if p.captured is not None]),
            )
    table = Table(
        [
            "design",
            "exposure: sim · rig",
            "mean (DN): sim · rig",
            "std (DN): sim · rig",
            "RMS difference (DN)",
            "RMS after gain and offset (DN)",
            "noise alone (DN)",
            "light, rig to sim",
            "scenes × seeds",
        ],
        rows,
        "Captured against noise-free simulated frames of the same test scenes, over all pixels; percent of full "
        f"scale ({sensor.top_dn} DN). Real captures have another mean and another contrast than their simulation, "
        "hence both stand here as they are. Exposure times differ because each side exposes a white scene to its "
        "own fill; those of the first seed are given. “After gain and offset”: what is left once one gain and one "
        "offset bring the captured frames nearest to the simulated ones, so what no normalisation can take away. "
        "“Noise alone”: the RMS that simulated noise adds to the same frames; a perfect model would still differ by "
        f"about so much. “Light”: mean signal above the data-sheet black level ({sensor.black_level_dn:g} DN) "
        "divided by the exposure time, rig to simulation.",
    )
    seed = next(iter(with_captures.values()))[0].seed
    picture = Picture(
        "histograms",
        histogram_figure(shown, sensor.top_dn),
        f"Pixel values of the compared frames, simulated without noise and captured, seed {seed}. Vertical lines: "
        "means.",
    )
    found = tables.scores(evidence)
    told = [(design, tables.changes(found, design)) for design in with_captures]
    rows = [
        [d, *(tables.points(c[w][0]) if w in c else "–" for w in ("lost on the rig", "left of the gap"))]
        for d, c in told
        if "lost on the rig" in c
    ]
    blocks: list[Block] = [table, picture]
    if rows:
        blocks.append(
            Table(
                ["design", "accuracy gap before fine-tuning", "after fine-tuning"],
                rows,
                "Accuracy on captured frames minus accuracy on simulated frames, in points with paired 95 % intervals.",
            )
        )
    return blocks


def file_name(text: str) -> str:
    """`text` as the name of a figure."""
    return re.sub(r"[^A-Za-z0-9-]+", "-", text).strip("-") or "design"
