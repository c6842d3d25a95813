"""Pictures back from real captures: quality and time, next to deepinv on the same operator.

    python benchmarks/deconvolution.py --data FOLDER --out FOLDER [--deepinv PYTHON] [--bin 3] [--rounds 3]
    python benchmarks/deconvolution.py --tutorial FOLDER --out FOLDER [--bin 6]

The first form takes the six pairs of `diffusercam.py`, which says how to get them. The PSF of each picture is a free
form, even and linear, fitted to the other five pairs, so that the operator is a plain convolution for everybody. A
setting is chosen for each picture by the mean PSNR of the other five pictures, each through its own PSF: the first of
its grid, which goes from cheap to dear, that is within CLOSE_DB of the best. Nothing is aligned, no gain is fitted.

--deepinv names a Python that has deepinv (an environment of its own: `pip install deepinv`, which brings torch and
torchvision). It gets the same arrays and chooses its settings in the same way, from its own grid. What was chosen is
then timed in turns, `--rounds` times each on one thread; the shortest time counts. What depends on the PSF alone is
prepared outside the clock for deepinv; ours has nothing prepared.

The second form takes a folder with `psf.png` and `raw_hand.png` of the DiffuserCam tutorial (Waller-Lab, BSD 3-Clause),
16 bit, and draws PSF, capture and reconstructions: there is no true picture.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from diffusercam import binned, read_pairs, said
from matplotlib.figure import Figure

from protocols.inversion.fista import Fista
from protocols.inversion.method import ClosedInversion
from protocols.inversion.problem import LinearCamera
from protocols.inversion.variational import AdmmTv, Tikhonov
from protocols.inversion.wiener import Wiener
from protocols.reconstruction import quality
from protocols.twin_fit.free_form import FreeForm, fit_free_form

Array = npt.NDArray[Any]

PSF_FORM = FreeForm(field_order=0, curved=False)
GRIDS: dict[str, tuple[ClosedInversion, ...]] = {
    "wiener": tuple(
        Wiener(noise_to_signal=ratio, prior=prior) for ratio in (0.3, 1.0, 3.0, 10.0) for prior in ("flat", "falling")
    ),
    "wiener_small": tuple(
        Wiener(noise_to_signal=ratio, prior="flat", room=room)
        for room in (0.1, 0.2, 0.5)
        for ratio in (1.0, 3.0, 10.0, 30.0)
    ),
    "tikhonov": tuple(
        Tikhonov(ridge=ridge, iterations=count) for count in (8, 12, 20, 30) for ridge in (0.3, 1.0, 3.0, 10.0)
    ),
    "admm_tv": tuple(
        AdmmTv(total_variation=share, iterations=count, coupling=coupling)
        for count in (20, 50)
        for share in (1e-4, 3e-4, 1e-3)
        for coupling in (1.0, 10.0)
    ),
    "fista": tuple(
        Fista(strength=share, iterations=count, inner_iterations=2)
        for count in (20, 50, 100)
        for share in (1e-4, 3e-4, 1e-3)
    ),
}
"""From cheap to dear, as those of deepinv: see `chosen`."""

CLOSE_DB = 0.05
"""What a cheaper setting may lose: below what these pictures can tell apart."""

INNER = 10
"""Steps inside deepinv's proximal map of the variation. Of its own size, 0.01, so few hardly move and a hundred take
five times longer; so the size is set too, to what did best on pictures binned 10x10."""

DEEPINV_GRIDS: dict[str, list[dict[str, Any]]] = {
    "wiener": [
        {"strength": strength, "prior": prior, "padded": padded}
        for padded in (False, True)
        for strength in (1e-3, 1e-2, 0.03, 0.1, 0.3, 1.0)
        for prior in ("flat", "laplacian")
    ],
    "tikhonov": [
        {"strength": strength, "least_squares_steps": count}
        for count in (8, 12, 20, 30)
        for strength in (1e-4, 3e-4, 1e-3, 3e-3)
    ],
    "admm_tv": [
        {
            "strength": strength,
            "iterations": count,
            "stepsize": step,
            "least_squares_steps": 10,
            "inner": INNER,
            "tau": 1.0,
        }
        for count in (10, 20)
        for strength in (3e-5, 1e-4, 3e-4)
        for step in (10.0, 100.0)
    ],
    "fista": [
        {"strength": strength, "iterations": count, "least_squares_steps": 0, "inner": INNER, "tau": 10.0}
        for count in (50, 100)
        for strength in (3e-5, 1e-4, 3e-4)
    ],
}


@dataclass(frozen=True)
class Case:
    """One picture (C, H, W), its frame, and the PSF that five other pairs gave."""

    name: str
    picture: torch.Tensor
    frame: torch.Tensor
    camera: LinearCamera


@dataclass(frozen=True)
class Row:
    """One setting on all pictures: psnr_db, ssim, clock_s, processor_s, (pictures,) each; and the pictures."""

    label: str
    psnr_db: Array
    ssim: Array
    clock_s: Array
    processor_s: Array
    pictures: list[torch.Tensor]


def main() -> None:
    """Fit, reconstruct, compare, draw."""
    given = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    given.add_argument("--data", type=Path, default=os.environ.get("LABCTL_DATA"))
    given.add_argument("--tutorial", type=Path)
    given.add_argument("--out", type=Path, required=True)
    given.add_argument("--deepinv", type=Path, help="a Python that has deepinv")
    given.add_argument("--bin", type=int, help="bin pictures n x n; 3 and, for the tutorial, 6 unless said")
    given.add_argument("--rounds", type=int, default=3)
    options = given.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    if options.tutorial:
        tutorial(options.tutorial, options.bin or 6).savefig(options.out / "deconvolution_tutorial.png", dpi=110)
        return
    cases = read_cases(options.data and Path(options.data), options.bin or 3)
    said(f"{len(cases)} pictures of {tuple(cases[0].picture.shape)}, PSFs fitted")
    ours = {name: ours_on(cases, grid) for name, grid in GRIDS.items()}
    theirs = deepinv_on(cases, options.deepinv, DEEPINV_GRIDS) if options.deepinv else {}
    for turn in range(options.rounds):
        said(f"timing what was chosen, round {turn + 1}")
        kept = {name: sorted(set(chosen(rows))) for name, rows in ours.items()}
        timed(ours, kept, {name: ours_on(cases, [GRIDS[name][n] for n in which]) for name, which in kept.items()})
        if options.deepinv:
            kept = {name: sorted(set(chosen(rows))) for name, rows in theirs.items()}
            grids = {name: [DEEPINV_GRIDS[name][n] for n in which] for name, which in kept.items()}
            timed(theirs, kept, deepinv_on(cases, options.deepinv, grids))
    table, figure = compared(cases, ours, theirs)
    said(table)
    (options.out / "deconvolution.txt").write_text(table)
    figure.savefig(options.out / "deconvolution.png", dpi=110)


def read_cases(folder: Path | None, bin_px: int) -> list[Case]:
    """The six pairs, each with a PSF that did not see it."""
    pairs = read_pairs(folder)
    lensed, diffuser = pairs.binned(bin_px)
    shape = (lensed.shape[-2], lensed.shape[-1])
    start = (shape[0] // 2, shape[1] // 2)
    cases = []
    for number, name in enumerate(pairs.names):
        kept = [n for n in range(len(lensed)) if n != number]
        psf = fit_free_form(lensed[kept], diffuser[kept], PSF_FORM, start=start).psf
        cases.append(Case(name, lensed[number], diffuser[number], LinearCamera(psf, start, shape, shape)))
    return cases


def ours_on(cases: list[Case], methods: Sequence[ClosedInversion]) -> list[Row]:
    """Each of our settings on all pictures, once."""
    rows = []
    for method in methods:
        pictures, clock, processor = [], [], []
        for case in cases:
            began = time.perf_counter(), time.process_time()
            pictures.append(method.invert(case.frame[None], case.camera)[0])
            clock.append(time.perf_counter() - began[0])
            processor.append(time.process_time() - began[1])
        shown = ", ".join(f"{key} {value}" for key, value in method.model_dump(exclude={"method", "brightest"}).items())
        rows.append(_judged(cases, shown, pictures, clock, processor))
    return rows


def deepinv_on(cases: list[Case], python: Path, grids: dict[str, list[dict[str, Any]]]) -> dict[str, list[Row]]:
    """Each of its settings on all pictures, once, in a child. Raises RuntimeError where its operator is another."""
    jobs = [
        {"name": f"{name}-{number}", "algorithm": name, **setting}
        for name, grid in grids.items()
        for number, setting in enumerate(grid)
    ]
    probe = cases[0].picture[None]
    rows: dict[str, list[Row]] = {}
    with TemporaryDirectory() as folder:
        job, result = Path(folder) / "job.npz", Path(folder) / "result.npz"
        arrays = {
            "psf": np.stack([case.camera.psf[0].numpy() for case in cases]),
            "frames": np.stack([case.frame.numpy() for case in cases]),
            "probe": probe.numpy(),
        }
        np.savez(job, **arrays, jobs=np.array(json.dumps(jobs)))
        script = Path(__file__).with_name("deconvolution_deepinv.py")
        threads = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        subprocess.run([str(python), str(script), str(job), str(result)], check=True, env={**os.environ, **threads})
        with np.load(result) as found:
            mine = cases[0].camera.forward(probe).numpy()
            gap = float(np.abs(found["probe"] - mine).max() / np.abs(mine).max())
            said(f"deepinv {found['version']}, {found['threads']} thread; its operator is ours to {gap:.1e}")
            if gap > 1e-4:
                raise RuntimeError("deepinv was given another operator: nothing can be compared")
            for described in jobs:
                name = described["name"]
                pictures = list(torch.from_numpy(found[f"{name}/pictures"]))
                shown = ", ".join(f"{k} {v}" for k, v in described.items() if k not in ("name", "algorithm"))
                row = _judged(cases, shown, pictures, found[f"{name}/clock"], found[f"{name}/processor"])
                rows.setdefault(described["algorithm"], []).append(row)
    return rows


def chosen(rows: list[Row]) -> list[int]:
    """For each picture, the first setting whose mean PSNR on the others is within CLOSE_DB of the best."""
    means = np.array([[np.delete(row.psnr_db, n).mean() for n in range(len(row.psnr_db))] for row in rows])
    return [int(first) for first in np.argmax(means >= means.max(axis=0) - CLOSE_DB, axis=0)]


def timed(rows: dict[str, list[Row]], kept: dict[str, list[int]], again: dict[str, list[Row]]) -> None:
    """Put the shorter times into `rows`, of the settings `kept`, which were run again."""
    for name, which in kept.items():
        for place, row in zip(which, again[name], strict=True):
            old = rows[name][place]
            clock_s = np.minimum(old.clock_s, row.clock_s)
            rows[name][place] = replace(old, clock_s=clock_s, processor_s=np.minimum(old.processor_s, row.processor_s))


def compared(cases: list[Case], ours: dict[str, list[Row]], theirs: dict[str, list[Row]]) -> tuple[str, Figure]:
    """A table of what was chosen for each picture, with ratios, and the pictures."""
    lines = [
        "mean over the pictures, each with the setting that is best on the other five; time of one picture, shortest "
        "of all rounds",
        f"{'':24s}{'PSNR dB':>9s}{'SSIM':>8s}{'clock ms':>10s}{'proc. ms':>10s}   settings chosen",
    ]
    shown: dict[str, list[torch.Tensor]] = {"seen through the lens": [case.picture for case in cases]}
    shown["frame"] = [case.frame / case.frame.max() for case in cases]
    best: dict[tuple[str, str], dict[str, Array]] = {}
    for side, found in (("ours", ours), ("deepinv", theirs)):
        for name, rows in found.items():
            picked = [rows[best] for best in chosen(rows)]
            number = range(len(cases))
            numbers = {
                field: np.array([getattr(row, field)[n] for n, row in zip(number, picked, strict=True)])
                for field in ("psnr_db", "ssim", "clock_s", "processor_s")
            }
            best[side, name] = numbers
            shown[f"{name}, {side}"] = [row.pictures[n] for n, row in zip(number, picked, strict=True)]
            labels = " | ".join(sorted({row.label for row in picked}))
            means = [float(values.mean()) for values in numbers.values()]
            lines.append(
                f"{name + ', ' + side:24s}{means[0]:9.2f}{means[1]:8.3f}{1e3 * means[2]:10.1f}{1e3 * means[3]:10.1f}   "
                + labels
            )
    for name in ours:
        same = name.removesuffix("_small")
        if ("deepinv", same) in best:
            mine, other = best["ours", name], best["deepinv", same]
            lines.append(
                f"{name}: ours - deepinv {np.mean(mine['psnr_db'] - other['psnr_db']):+.2f} dB, "
                f"SSIM {np.mean(mine['ssim'] - other['ssim']):+.3f}; time ours / deepinv "
                f"{mine['clock_s'].sum() / other['clock_s'].sum():.2f} by clock, "
                f"{mine['processor_s'].sum() / other['processor_s'].sum():.2f} by processor time"
            )
    lines += ["", "all settings: mean PSNR dB, SSIM, processor ms"]
    for side, found in (("ours", ours), ("deepinv", theirs)):
        for name, rows in found.items():
            for row in rows:
                lines.append(
                    f"{name + ', ' + side:24s}{row.psnr_db.mean():9.2f}{row.ssim.mean():8.3f}"
                    f"{1e3 * row.processor_s.mean():10.1f}   {row.label}"
                )
    return "\n".join(lines) + "\n", sheet(shown, [case.name for case in cases])


def sheet(shown: dict[str, list[torch.Tensor]], names: list[str]) -> Figure:
    """A row for each picture. Shown upright; the files are not."""
    figure = Figure(figsize=(2.1 * len(shown), 1.3 * len(names) + 0.3), layout="constrained")
    places = figure.subplots(len(names), len(shown), squeeze=False)
    for column, (title, pictures) in enumerate(shown.items()):
        for row, picture in enumerate(pictures):
            axes = places[row, column]
            axes.imshow(picture.clamp(0, 1).numpy()[:, ::-1].transpose(1, 2, 0) ** (1 / 1.6), interpolation="nearest")
            axes.set(xticks=[], yticks=[])
            if row == 0:
                axes.set_title(title, fontsize=8)
            if column == 0:
                axes.set_ylabel(names[row], fontsize=8)
    return figure


def tutorial(folder: Path, bin_px: int) -> Figure:
    """PSF, capture, and what each method makes of it."""
    from matplotlib.image import imread

    psf, raw = (torch.from_numpy(imread(folder / name).astype(np.float32)) for name in ("psf.png", "raw_hand.png"))
    dark = psf[5:15, 5:15].mean()
    psf, raw = ((image - dark).clamp(min=0)[None, None] for image in (psf, raw))
    psf, raw = binned(psf, bin_px)[0], binned(raw, bin_px)
    psf, raw = psf / psf.sum(), raw / raw.max()
    shape = (raw.shape[-2], raw.shape[-1])
    camera = LinearCamera(psf, (shape[0] // 2, shape[1] // 2), shape, shape)
    methods = {
        "Wiener": Wiener(noise_to_signal=0.3),
        "Tikhonov, exact window": Tikhonov(ridge=0.1),
        "ADMM-TV": AdmmTv(total_variation=1e-4, iterations=100, brightest=None),
        "FISTA, total variation": Fista(strength=1e-4, iterations=100, brightest=None),
    }
    shown = {"PSF (a point of light)": psf[0] / psf.max(), "capture": raw[0, 0]}
    for name, method in methods.items():
        began = time.perf_counter()
        light = method.solve(raw, camera)[0, 0].clamp(min=0)
        said(f"{name}: {time.perf_counter() - began:.2f} s at {shape[0]}x{shape[1]}")
        shown[name] = light / torch.quantile(light, 0.999)
    figure = Figure(figsize=(4 * 3, 3.2 * 2), layout="constrained")
    for axes, (title, image) in zip(figure.subplots(2, 3).ravel(), shown.items(), strict=True):
        axes.imshow(image.clamp(0, 1).numpy() ** 0.6, cmap="gray")
        axes.set(xticks=[], yticks=[], title=title)
    return figure


def _judged(cases: list[Case], label: str, pictures: list[torch.Tensor], clock: Any, processor: Any) -> Row:
    found = [quality(picture, case.picture) for picture, case in zip(pictures, cases, strict=True)]
    psnr_db, ssim = (np.array([getattr(one, field) for one in found]) for field in ("psnr_db", "ssim"))
    return Row(label, psnr_db, ssim, np.asarray(clock), np.asarray(processor), pictures)


if __name__ == "__main__":
    main()
