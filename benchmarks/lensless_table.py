"""The table of the lensless paper on sets of faces that can be had: eight patterns and a disc, beside its order.

    LABCTL_DATA=DATA python benchmarks/lensless_table.py --out OUT [--sets lfw extyaleb orl] [--seeds 0 1 2]
    LABCTL_DATA=DATA python benchmarks/lensless_table.py --out OUT --size 127-64 --sets orl

Trains and tests every pattern of configs/protocols/paper-lensless-table.yaml, with its losses. The disc is as open as
the mask that LwoC ended with for the same set and seed. One line of OUT/cells.jsonl is one camera; those that are there
are kept, so a run that was stopped goes on. Then OUT/table.md and OUT/blurriness-SIZE.svg, which hold no picture.
Files: faces_lfw/lfw_min20.npz, faces_extyaleb/extyaleb.npz and faces_orl/orl.npz in DATA.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cells import Cells, own_folder, say, until
from lensless_cells import SETS, FaceSet, prepare, right_of, train_and_test

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from protocols.metrics import Interval

PATTERNS = ("pinhole", "open", "random", "lwoc", "lwc-sim", "lwc-tv", "lwc-inv", "lwc-rip", "disc")
"""Designs of the protocol; the disc last, since it is as open as `lwoc` ended."""

LEARNED_FIRST = "lwoc"


@dataclass(frozen=True)
class Size:
    """Grids of one size, the rig for it, and the column of the published table. share: of the epochs at 63/32."""

    rig: str
    column: str
    grids: tuple[str, ...] = ()
    share: float = 1.0


SIZES = {
    "63-32": Size("sim", "ms-63-32"),
    "127-32": Size("paper-127-32", "ms-127-32", ("scene_px=[127,127]",)),
    "127-64": Size("paper-127-64", "ms-127-64", ("scene_px=[127,127]", "mask_cells=[64,64]")),
}


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", choices=list(SIZES), default="63-32")
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--patterns", nargs="+", choices=PATTERNS, default=list(PATTERNS))
    parser.add_argument("--epochs", type=int, default=None, help="in place of those of the set")
    parser.add_argument("--minutes", type=float, default=None, help="begin no further camera after so long")
    parser.add_argument("--table", action="store_true", help="only write table and figure of the cameras there are")
    options = parser.parse_args()
    out: Path = options.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    cells = Cells(out / "cells.jsonl", ("size", "set", "seed", "pattern"))
    if not options.table:
        wanted = [
            {"size": options.size, "set": name, "seed": seed, "pattern": pattern}
            for seed in options.seeds
            for name in options.sets
            for pattern in PATTERNS
            if pattern in options.patterns
        ]
        _fill(cells, wanted, out, options.epochs, options.minutes)
    _write(cells, out)


def _fill(
    cells: Cells, wanted: Sequence[Mapping[str, Any]], out: Path, epochs: int | None, minutes: float | None
) -> None:
    data, over = prepare(out), until(minutes)
    for cell in cells.missing(wanted):
        if over():
            say("the time is up; the rest is left for another run")
            return
        faces, size = SETS[cell["set"]], SIZES[cell["size"]]
        own = [] if cell["pattern"] != "disc" else _as_open(cells, cell)
        if own is None:
            say(f"{cell}: left out, {LEARNED_FIRST} was not trained")
            continue
        given = [*faces.overrides(data), *size.grids, *own]
        if epochs is not None:
            given.append(f"steps.train.epochs={epochs}")
        found = train_and_test(cell["pattern"], cell["seed"], given, [size.rig], own_folder(out))
        cells.add({**cell, "epochs": epochs or faces.epochs, **found})
        say(f"{' '.join(map(str, cell.values()))}: {100 * found['accuracy']:.1f} % in {found['seconds']:.0f} s")


def _as_open(cells: Cells, cell: Mapping[str, Any]) -> list[str] | None:
    learned = cells.of(**{**{key: cell[key] for key in ("size", "set", "seed")}, "pattern": LEARNED_FIRST})
    return [f"designs.disc={{type: disc, open_fraction: {learned[0]['aperture_ratio']}}}"] if learned else None


# What came of it


@dataclass(frozen=True)
class Row:
    """One pattern on one set. seeds: accuracy of each. blur: of noise-free frames; noisy: of frames with noise."""

    pattern: str
    accuracy: Interval
    seeds: tuple[float, ...]
    to_learned: Interval | None
    blur: Interval
    noisy: Interval
    aperture: Interval


def rows_of(cells: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Rows of one set and size, in the order of PATTERNS."""
    from protocols.metrics import accuracy_interval, paired_difference_interval

    by_pattern: dict[str, dict[int, Mapping[str, Any]]] = {}
    for cell in cells:
        by_pattern.setdefault(cell["pattern"], {})[cell["seed"]] = cell
    rows = []
    for pattern in (name for name in PATTERNS if name in by_pattern):
        own = by_pattern[pattern]
        seeds = sorted(own)
        rivals = by_pattern.get(LEARNED_FIRST, {})
        shared = [seed for seed in seeds if seed in rivals and pattern != LEARNED_FIRST]
        gap = None
        if shared:
            gap = paired_difference_interval(
                [right_of(own[seed]) for seed in shared], [right_of(rivals[seed]) for seed in shared]
            )
        rows.append(
            Row(
                pattern,
                accuracy_interval([right_of(own[seed]) for seed in seeds]),
                tuple(own[seed]["accuracy"] for seed in seeds),
                gap,
                *(
                    over_seeds([own[seed][name] for seed in seeds])
                    for name in ("blurriness_noise_free", "blurriness", "aperture_ratio")
                ),
            )
        )
    return rows


def over_seeds(values: Sequence[float]) -> Interval:
    """Mean of values of several training seeds and its 95 % interval by Student's t; NaN ends for a single one."""
    import numpy as np
    from scipy.stats import t

    from protocols.metrics import Interval

    mean = float(np.mean(values))
    if len(values) < 2:
        return Interval(mean, math.nan, math.nan)
    half = float(t.ppf(0.975, len(values) - 1)) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return Interval(mean, mean - half, mean + half)


def as_markdown(title: str, rows: Sequence[Row], column: str) -> str:
    """The table of one set beside a column of the published one."""
    published = published_column(column)
    places = {"here": _places({row.pattern: row.accuracy.mean for row in rows}, published["accuracy"])}
    places["there"] = _places(published["accuracy"], {row.pattern for row in rows})
    lines = [
        f"### {title}",
        "",
        "| pattern | accuracy / % | seeds | minus lwoc | published | place here / there | blur, noise-free | published "
        "| blur, noisy | open fraction | published |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            "| "
            + " | ".join(
                (
                    row.pattern,
                    _percent(row.accuracy),
                    " ".join(f"{100 * value:.1f}" for value in row.seeds),
                    "–" if row.to_learned is None else _percent(row.to_learned, sign=True),
                    _given(published["accuracy"].get(row.pattern), ".1f"),
                    f"{places['here'].get(row.pattern, '–')} / {places['there'].get(row.pattern, '–')}",
                    _share(row.blur),
                    _given(published["blurriness"].get(row.pattern), ".3f"),
                    _share(row.noisy),
                    _share(row.aperture, digits=4),
                    _given(published["aperture"].get(row.pattern), ".3f"),
                )
            )
            + " |"
        )
    return "\n".join([*lines, "", *_orders(rows, published)]) + "\n"


def published_column(column: str) -> dict[str, dict[str, float]]:
    """Accuracy in percent, blurriness and aperture ratio of a column of the published table, by design."""
    from protocols.report.paper import read_published

    names = {
        "pinhole": "Pinhole", "open": "Full open", "random": "Random", "lwoc": "LwoC", "lwc-sim": "LwC-Sim",
        "lwc-tv": "LwC-TV", "lwc-inv": "LwC-Inv", "lwc-rip": "LwC-RIP",
    }  # fmt: skip
    found = read_published("lensless-2023")["columns"][column]
    quantities = ("accuracy", "blurriness", "aperture")
    return {q: {ours: found.get(q, {})[n] for ours, n in names.items() if n in found.get(q, {})} for q in quantities}


def _orders(rows: Sequence[Row], published: Mapping[str, Mapping[str, float]]) -> list[str]:
    from protocols.report.paper import rank_correlation, reversed_pairs

    ours = {
        "accuracy": {row.pattern: row.accuracy.mean for row in rows},
        "blurriness": {row.pattern: row.blur.mean for row in rows},
        "aperture": {row.pattern: row.aperture.mean for row in rows},
    }
    words = []
    for quantity, values in ours.items():
        found = rank_correlation(values, published[quantity])
        if found is not None:
            words.append(f"{quantity} Spearman {found[0]:+.2f}, Kendall {found[1]:+.2f} over {found[2]}")
    pairs = [f"{there} above {here} there" for there, here in reversed_pairs(ours["accuracy"], published["accuracy"])]
    return [
        f"Order beside the paper's: {'; '.join(words)}.",
        f"Pairs the other way round in accuracy: {'; '.join(pairs) or 'none'}.",
    ]


def draw(tables: Mapping[str, Sequence[Row]]) -> Figure:
    """Accuracy against blurriness of noise-free frames, one panel for each set."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    from labctl.frames.figure_style import COMMON

    colours = ("#0072B2", "#56B4E9", "#999999", "#D55E00", "#E69F00", "#CC79A7", "#009E73", "#882255", "#000000")
    with rc_context({**COMMON, "svg.fonttype": "path", "svg.hashsalt": "labctl"}):
        figure = Figure(figsize=(2.9 * len(tables) + 0.4, 3.0), layout="constrained")
        panels = figure.subplots(1, len(tables), squeeze=False)[0]
        for axes, (title, rows) in zip(panels, tables.items(), strict=True):
            for row in rows:
                mean, low, high = (100 * v for v in (row.accuracy.mean, row.accuracy.low, row.accuracy.high))
                axes.errorbar(
                    row.blur.mean,
                    mean,
                    [[mean - low], [high - mean]],
                    fmt="s" if row.pattern == "disc" else "o",
                    color=colours[PATTERNS.index(row.pattern)],
                    markersize=4.5,
                    capsize=2,
                    elinewidth=1,
                    label=row.pattern,
                )
            axes.set(title=title, xlabel="blurriness, noise-free", xlim=(0.2, 1), ylim=(0, 104))
            axes.grid(alpha=0.3)
            axes.set_axisbelow(True)
        panels[0].set_ylabel("accuracy on the test split / %")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=5)
    return figure


def _write(cells: Cells, out: Path) -> None:
    parts = []
    for name, size in SIZES.items():
        tables: dict[str, list[Row]] = {}
        for faces in SETS.values():
            own = cells.of(size=name, set=faces.name)
            if own:
                rows = rows_of(own)
                tables[faces.title.split(",")[0]] = rows
                parts.append(as_markdown(_title(faces, name, own), rows, size.column))
        if tables:
            metadata = {"Date": None, "Creator": None}
            draw(tables).savefig(out / f"blurriness-{name}.svg", metadata=metadata)
    if not parts:
        raise SystemExit(f"there are no cells in {out}; run without --table")
    (out / "table.md").write_text("\n".join(parts))
    sys.stdout.write("\n".join(parts))


def _title(faces: FaceSet, size: str, cells: Sequence[Mapping[str, Any]]) -> str:
    epochs = sorted({cell["epochs"] for cell in cells})
    return (
        f"{faces.title}, {size.replace('-', '/')}: {cells[0]['n_test']} test pictures, majority "
        f"{100 * cells[0]['majority']:.1f} %, {' or '.join(map(str, epochs))} epochs"
    )


def _places(values: Mapping[str, float], among: Any) -> dict[str, int]:
    ranked = sorted((name for name in values if name in among), key=lambda name: -values[name])
    return {name: place for place, name in enumerate(ranked, 1)}


def _percent(interval: Interval, *, sign: bool = False) -> str:
    form = "+.1f" if sign else ".1f"
    return f"{100 * interval.mean:{form}} [{100 * interval.low:{form}}, {100 * interval.high:{form}}]"


def _share(interval: Interval, digits: int = 3) -> str:
    if math.isnan(interval.low) or interval.high - interval.low < 10**-digits:
        return f"{interval.mean:.{digits}f}"
    return f"{interval.mean:.{digits}f} [{interval.low:.{digits}f}, {interval.high:.{digits}f}]"


def _given(value: float | None, form: str) -> str:
    return "–" if value is None else f"{value:{form}}"


if __name__ == "__main__":
    main()
