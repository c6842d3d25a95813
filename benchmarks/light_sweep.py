"""At which light a coded mask overtakes the pinhole: pinhole, random, discs of several radii and learned masks.

    LABCTL_DATA=DATA python benchmarks/light_sweep.py --out OUT [--levels 0.1 1 10 100] [--seeds 0 1 2]

At level L a white scene through the open mask gives L x 10,000 electrons a pixel in the longest exposure. Every mask
gets the same irradiance and that exposure; it is shortened only where a white scene would pass 0.9 of the full well, of
10,000 e-. Shot noise, 3 e- read noise, 10 bit behind an analogue gain of up to 16: simulated as 14 bit over the full
well, which has the same step where light is scarce, and one far below the shot noise where it is not. Every camera is
trained at the level that it is tested at, on faces_lfw/lfw_min20.npz in DATA, by the steps of
configs/protocols/paper-lensless-table.yaml. The radius of the disc, and that of the blob from which the learned mask
starts, are chosen for each level on validation pictures, of those that were trained with every seed. One line of
OUT/cells.jsonl is one camera; those that are there are kept. Then OUT/light.md and OUT/light.svg, without pictures.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cells import Cells, own_folder, say, until
from lensless_cells import SETS, prepare, right_of, train_and_test

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from protocols.metrics import Interval

LEVEL_E = 10_000.0
"""Electrons of a white pixel through the open mask at level 1."""

LONGEST_S = 0.01
FACES = SETS["lfw"]
RADII = (1, 2, 3, 4, 6, 9)
START_RADII = (3, 6)

LEARNED = "{{type: learned, start: blob, start_radius_cells: {radius}, rate: 0.01, move_from: 0.3}}"

MASKS: dict[str, dict[str, str]] = {
    "pinhole": {"pinhole": "{type: pinhole}"},
    "random": {"random": "{type: random, open_fraction: 0.51}"},
    "learned": {f"learned-{radius}": LEARNED.format(radius=radius) for radius in START_RADII},
    "disc": {f"disc-{radius}": f"{{type: disc, radius_cells: {radius}}}" for radius in RADII},
}
"""By family, the masks of which the best on validation pictures stands for it."""


def main() -> None:
    """See the module."""
    every = [mask for family in MASKS.values() for mask in family]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--levels", nargs="+", type=float, default=[0.1, 1.0, 10.0, 100.0])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--masks", nargs="+", choices=every, default=every, help="of all that are tried")
    parser.add_argument("--epochs", type=int, default=FACES.epochs)
    parser.add_argument("--minutes", type=float, default=None, help="begin no further camera after so long")
    parser.add_argument("--table", action="store_true", help="only write table and figure of the cameras there are")
    options = parser.parse_args()
    out: Path = options.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    cells = Cells(out / "cells.jsonl", ("level", "mask", "seed"))
    if not options.table:
        wanted = [
            {"level": level, "mask": mask, "seed": seed}
            for seed in options.seeds
            for level in options.levels
            for mask in every
            if mask in options.masks
        ]
        _fill(cells, wanted, out, options.epochs, options.minutes)
    _write(cells, out)


def rig_at(level: float) -> list[str]:
    """The bench of `sim` with the light and the sensor of a level; see the module."""
    import torch

    from labctl.rig_file import find_rig, load_rig

    rig = load_rig(find_rig("sim"))
    twin: Any = rig.twin.build(rig.roads)  # type: ignore[attr-defined]
    open_area = float(twin.open_area(twin.psf(torch.ones(32, 32))))
    photons_per_s = level * LEVEL_E / (open_area * LONGEST_S * twin.settings.sensor.best_efficiency)
    return [
        "sim",
        f"twin.light.photons_per_s={photons_per_s}",
        f"twin.sensor.exposure_limits_s=[1.0e-8,{LONGEST_S}]",
        "twin.sensor.bits=14",
    ]


def _fill(cells: Cells, wanted: Sequence[Mapping[str, Any]], out: Path, epochs: int, minutes: float | None) -> None:
    data, over = prepare(out), until(minutes)
    settings = {mask: text for family in MASKS.values() for mask, text in family.items()}
    for cell in cells.missing(wanted):
        if over():
            say("the time is up; the rest is left for another run")
            return
        mask = cell["mask"]
        given = [*FACES.overrides(data), f"designs.{mask}={settings[mask]}", f"steps.train.epochs={epochs}"]
        found = train_and_test(mask, cell["seed"], given, rig_at(cell["level"]), own_folder(out))
        cells.add({**cell, "epochs": epochs, **found})
        say(f"{' '.join(map(str, cell.values()))}: {100 * found['accuracy']:.1f} % in {found['seconds']:.0f} s")


# What came of it


@dataclass(frozen=True)
class Row:
    """One family at one level. mask: which of it was best on validation pictures, over all seeds."""

    level: float
    family: str
    mask: str
    accuracy: Interval
    seeds: tuple[float, ...]
    white_e: float
    aperture: float
    to_pinhole: Interval | None
    to_disc: Interval | None


def rows_of(cells: Sequence[Mapping[str, Any]]) -> list[Row]:
    """By level, then by family; families of which nothing was trained at a level are left out."""
    from protocols.metrics import accuracy_interval, paired_difference_interval

    rows = []
    for level in sorted({cell["level"] for cell in cells}):
        best: dict[str, dict[int, Mapping[str, Any]]] = {}
        for family, masks in MASKS.items():
            tried = {mask: {c["seed"]: c for c in cells if (c["level"], c["mask"]) == (level, mask)} for mask in masks}
            tried = {mask: by_seed for mask, by_seed in tried.items() if by_seed}
            most = max((len(by_seed) for by_seed in tried.values()), default=0)
            whole = {mask: by_seed for mask, by_seed in tried.items() if len(by_seed) == most}
            if whole:
                best[family] = max(whole.values(), key=lambda by_seed: sum(c["val_accuracy"] for c in by_seed.values()))
        for family, by_seed in best.items():
            gaps: dict[str, Interval | None] = {}
            for rival in ("pinhole", "disc"):
                shared = sorted(by_seed.keys() & best.get(rival, {}).keys()) if rival != family else []
                gaps[rival] = (
                    paired_difference_interval(
                        [right_of(by_seed[seed]) for seed in shared], [right_of(best[rival][seed]) for seed in shared]
                    )
                    if shared
                    else None
                )
            seeds = sorted(by_seed)
            own = [by_seed[seed] for seed in seeds]
            rows.append(
                Row(
                    level,
                    family,
                    own[0]["mask"],
                    accuracy_interval([right_of(cell) for cell in own]),
                    tuple(cell["accuracy"] for cell in own),
                    sum(cell["white_e"] for cell in own) / len(own),
                    sum(cell["aperture_ratio"] for cell in own) / len(own),
                    gaps["pinhole"],
                    gaps["disc"],
                )
            )
    return rows


def crossing_e(rows: Sequence[Row], family: str) -> tuple[float, float] | None:
    """Levels in e- of a white pixel through the open mask between which the pinhole overtakes `family`; None if none.

    A level counts as led when the mean is higher, however wide the interval.
    """
    by_level: dict[float, dict[str, float]] = {}
    for row in rows:
        by_level.setdefault(row.level, {})[row.family] = row.accuracy.mean
    levels = [level for level in sorted(by_level) if {"pinhole", family} <= by_level[level].keys()]
    for low, high in itertools.pairwise(levels):
        if by_level[low][family] > by_level[low]["pinhole"] and by_level[high][family] <= by_level[high]["pinhole"]:
            return low * LEVEL_E, high * LEVEL_E
    return None


def as_markdown(rows: Sequence[Row]) -> str:
    """The table, and where the pinhole takes the lead."""
    lines = [
        "| open mask, white / e- | mask | chosen | white pixel / e- | open fraction | accuracy / % | seeds "
        "| minus pinhole | minus disc |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row.level * LEVEL_E:.0e} | {row.family} | {row.mask} | {row.white_e:.3g} | {row.aperture:.4f} | "
            f"{_percent(row.accuracy)} | {' '.join(f'{100 * v:.1f}' for v in row.seeds)} | "
            f"{_percent(row.to_pinhole, sign=True)} | {_percent(row.to_disc, sign=True)} |"
        )
    lines.append("")
    for family in ("learned", "disc", "random"):
        found = crossing_e(rows, family)
        where = "at no level that was run" if found is None else f"between {found[0]:.0e} and {found[1]:.0e} e-"
        lines.append(f"The pinhole overtakes {family} {where} of a white pixel through the open mask.")
    return "\n".join(lines) + "\n"


def draw(rows: Sequence[Row], majority: float) -> Figure:
    """Accuracy by light, one line for each family."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    from labctl.frames.figure_style import COMMON, SOFT

    colours = {"pinhole": "#0072B2", "random": "#999999", "learned": "#D55E00", "disc": "#000000"}
    with rc_context({**COMMON, "svg.fonttype": "path", "svg.hashsalt": "labctl"}):
        figure = Figure(figsize=(4.6, 3.2), layout="constrained")
        axes = figure.subplots()
        for number, family in enumerate(MASKS):
            own = [row for row in rows if row.family == family]
            shift = 1.06 ** (number - 1.5)
            mean = [100 * row.accuracy.mean for row in own]
            low = [100 * (row.accuracy.mean - row.accuracy.low) for row in own]
            high = [100 * (row.accuracy.high - row.accuracy.mean) for row in own]
            light = [row.level * LEVEL_E * shift for row in own]
            axes.errorbar(light, mean, [low, high], fmt="o-", color=colours[family], markersize=4, capsize=2.5,
                          linewidth=1.2, label=family)  # fmt: skip
            for row, x in zip(own, light, strict=True):
                if family == "disc":
                    radius = row.mask.split("-")[1]
                    axes.annotate(f"r{radius}", (x, 100 * row.accuracy.mean), (4, -9), textcoords="offset points",
                                  fontsize=6)  # fmt: skip
        axes.axhline(100 * majority, color=SOFT, linestyle="--", linewidth=0.8)
        axes.set(
            xscale="log",
            ylim=(0, 100),
            xlabel="white pixel through the open mask in the longest exposure / e−",
            ylabel="accuracy on the test split / %",
        )
        top = axes.secondary_xaxis("top", functions=(lambda x: x / 1024, lambda x: x * 1024))
        top.set_xlabel("the same through the pinhole / e−")
        axes.grid(alpha=0.3)
        axes.set_axisbelow(True)
        axes.legend(loc="upper left")
    return figure


def _write(cells: Cells, out: Path) -> None:
    there = cells.of()
    if not there:
        raise SystemExit(f"there are no cells in {out}; run without --table")
    rows = rows_of(there)
    (out / "light.md").write_text(as_markdown(rows))
    draw(rows, there[0]["majority"]).savefig(out / "light.svg", metadata={"Date": None, "Creator": None})
    sys.stdout.write(as_markdown(rows))


def _percent(interval: Interval | None, *, sign: bool = False) -> str:
    if interval is None or math.isnan(interval.low):
        return "–"
    form = "+.1f" if sign else ".1f"
    return f"{100 * interval.mean:{form}} [{100 * interval.low:{form}}, {100 * interval.high:{form}}]"


if __name__ == "__main__":
    main()
