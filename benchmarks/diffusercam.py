"""Real captures that no simulation made: PSF as a free form on six pairs of DiffuserCam, leaving one out.

    python benchmarks/diffusercam.py --data FOLDER --out FOLDER [--bin 3] [--processes 2]

Six pictures on a monitor, each seen by a camera with a lens and, through the same beam splitter, by one with a diffuser
in its place. From five pairs a PSF is found; of the sixth, the frame is predicted from the picture, and the picture
reconstructed from the frame. The data are not part of this project. Either clone
https://github.com/Waller-Lab/LenslessLearning (BSD 3-Clause) and give its folder `sample_images`, or give a folder with
`pairs_dev.npz`: lensed and diffuser (6, 270, 480, 3), values = code * scale + offset, image_id. An optional
`psf_estimated.npz` beside it is shown for orientation only: it saw all six. LABCTL_DATA may name the folder above.

Settings are chosen by leaving one out again among the five: the fit without {i, j} judges settings for the test on i by
its error on j. That is done on pictures binned 5x5, the final fit on `--bin`. Nothing is aligned, and no gain is fitted
to predictions or reconstructions, but where a column says so; the mean and the t interval are over six folds, which
share training pairs. The kinds of terms that the free form may have were found while looking at these six pairs.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.figure import Figure
from scipy.stats import t as student

from labctl.errors import BadInput
from protocols.inversion.variational import AdmmTv, Tikhonov
from protocols.reconstruction import best_method, quality, reconstruct
from protocols.twin_fit.free_form import (
    FreeForm,
    FreeFormTwin,
    SceneResponse,
    fit_free_form,
    noise_variance,
    normalised_error,
    ridge_twin,
)

Array = npt.NDArray[Any]

DATA_SET = "lensless_diffusercam_mirflickr"
CHOICE_BIN = 5
RIDGES = (0.1, 1.0, 10.0, 100.0)
FREE_FORMS = (
    *(FreeForm(field_order=order, curved=curved) for order in (0, 2, 4) for curved in (False, True)),
    FreeForm(noise_weighted=True),
    FreeForm(background=True),
    FreeForm(sparsity=1e-3),
    FreeForm(total_variation=1e-4),
    FreeForm(coupling=1.0),
)
FILTERS = tuple(Tikhonov(ridge=ridge) for ridge in (0.1, 1.0, 10.0))
ITERATED = tuple(AdmmTv(total_variation=share, relaxation=1.0, brightest=None) for share in (1e-4, 1e-3))
CANDIDATES: dict[str, tuple[Any, ...]] = {"ridge": RIDGES, "free form": FREE_FORMS}
METHODS = ("tikhonov", "non_negative")
NUMBERS = {
    "error": 3,
    "error_one_gain": 3,
    "correlation": 4,
    "frame_psnr_db": 2,
    "tikhonov_psnr_db": 2,
    "tikhonov_ssim": 3,
    "non_negative_psnr_db": 2,
    "non_negative_ssim": 3,
}
"""What is reported, with digits. error: see `normalised_error`; PSNR of a frame: its peak is that of the real one."""

KINDS = {
    "ridge": "ridge",
    "free form": "free form",
    "psf only": "free form, even and linear",
    "ridge+": "ridge, response of the free form",
    "seen": "estimate of the data (saw all six)",
}


def main() -> None:
    """Choose, fit, judge, draw."""
    given = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    given.add_argument("--data", type=Path, default=os.environ.get("LABCTL_DATA"))
    given.add_argument("--out", type=Path, required=True)
    given.add_argument("--bin", type=int, default=3, choices=(1, 2, 3, 5), help="bin pictures n x n for the final fit")
    given.add_argument("--processes", type=int, default=2)
    options = given.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    pairs = read_pairs(options.data and Path(options.data))
    folds = range(len(pairs.names))
    with ProcessPoolExecutor(options.processes, mp_context=get_context("spawn")) as pool:
        couples = [(i, j) for i in folds for j in folds if i < j]
        errors = dict(zip(couples, pool.map(errors_without, [pairs] * len(couples), couples), strict=True))
        chosen = [choice(errors, fold) for fold in folds]
        said(f"settings chosen in {time.perf_counter() - began:.0f} s")
        results = []
        for row, shown in pool.map(fold_result, [pairs] * len(chosen), folds, chosen, [options.bin] * len(chosen)):
            said(f"picture {row['picture']}: {row['settings']}")
            results.append((row, shown))
    rows = [row for row, _ in results]
    said(table(rows))
    (options.out / "diffusercam.json").write_text(json.dumps({"bin": options.bin, "folds": rows}, indent=1))
    contact_sheet([(row["picture"], shown) for row, shown in results]).savefig(options.out / "diffusercam.png", dpi=110)
    psf_sheet(results[-1][1]).savefig(options.out / "diffusercam_psf.png", dpi=110)
    said(f"{time.perf_counter() - began:.0f} s in all; tables and figures in {options.out}")


@dataclass(frozen=True)
class Pairs:
    """Lensed and diffuser (N, 3, 270, 480), names, and the PSF (3, 270, 480) that comes with the data, if any."""

    lensed: Array
    diffuser: Array
    names: list[str]
    seen: Array | None

    def binned(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Lensed and diffuser as means of count x count pixels."""
        torch.set_num_threads(1)
        return binned(torch.from_numpy(self.lensed), count), binned(torch.from_numpy(self.diffuser), count)


def errors_without(pairs: Pairs, couple: tuple[int, int]) -> dict[str, Array]:
    """Errors (settings, 2) of the two pairs of `couple` with twins that saw neither."""
    lensed, diffuser = pairs.binned(CHOICE_BIN)
    kept = [number for number in range(len(lensed)) if number not in couple]
    errors: dict[str, Array] = {}
    for kind, settings in CANDIDATES.items():
        twins = [fit(lensed[kept], diffuser[kept], setting) for setting in settings]
        errors[kind] = np.array(
            [[normalised_error(twin.predict(lensed[n : n + 1])[0], diffuser[n]) for n in couple] for twin in twins]
        )
    return errors


def choice(errors: dict[tuple[int, int], dict[str, Array]], fold: int) -> dict[str, Any]:
    """The setting of each kind with the least mean error over the other five, from twins that never saw `fold`."""
    chosen = {}
    for kind, settings in CANDIDATES.items():
        inner = [found[kind][:, 1 - couple.index(fold)] for couple, found in errors.items() if fold in couple]
        chosen[kind] = settings[int(np.argmin(np.mean(inner, axis=0)))]
    return chosen


def fold_result(
    pairs: Pairs, fold: int, chosen: dict[str, Any], bin_px: int
) -> tuple[dict[str, Any], dict[tuple[str, str], Array]]:
    """Numbers and pictures of one fold: methods of reconstruction chosen, twins fitted, the left-out pair judged."""
    lensed, diffuser = pairs.binned(CHOICE_BIN)
    methods = {}
    for kind, setting in chosen.items():
        inner = []
        for j in (number for number in range(len(lensed)) if number != fold):
            kept = [number for number in range(len(lensed)) if number not in (fold, j)]
            inner.append((lensed[j], diffuser[j], fit(lensed[kept], diffuser[kept], setting)))
        methods[kind] = (best_method(FILTERS, inner)[0], best_method(ITERATED, inner)[0])
    settings = {**chosen, "methods": methods}
    lensed, diffuser = pairs.binned(bin_px)
    seen = None if pairs.seen is None else torch.from_numpy(pairs.seen)
    twins = fitted(lensed, diffuser, fold, settings, seen, bin_px)
    judged, pictures = judge(twins, settings, lensed[fold], diffuser[fold])
    shown = {("", "lensed"): lensed[fold], ("", "frame"): diffuser[fold], **pictures}
    shown |= {(kind, "psf"): twin.psf for kind, twin in twins.items()}
    shown["free form", "field"] = twins["free form"].response.field
    told = {"ridge": chosen["ridge"], "free form": chosen["free form"].model_dump(), "methods": repr(methods)}
    row = {"picture": pairs.names[fold], "settings": told, **judged}
    return row, {key: image.numpy() for key, image in shown.items()}


def fit(lensed: torch.Tensor, diffuser: torch.Tensor, setting: float | FreeForm) -> FreeFormTwin:
    """By ridge or as a free form; PSF and frame as large as the picture, in its middle."""
    start = lensed.shape[-2] // 2, lensed.shape[-1] // 2
    if isinstance(setting, FreeForm):
        return fit_free_form(lensed, diffuser, setting, start=start)
    return ridge_twin(lensed, diffuser, ridge=setting, start=start)


def fitted(
    lensed: torch.Tensor,
    diffuser: torch.Tensor,
    fold: int,
    settings: dict[str, Any],
    seen: torch.Tensor | None,
    bin_px: int,
) -> dict[str, FreeFormTwin]:
    """All kinds of twins without pair `fold`."""
    kept = [number for number in range(len(lensed)) if number != fold]
    twins = {kind: fit(lensed[kept], diffuser[kept], settings[kind]) for kind in ("ridge", "free form")}
    plain = settings["free form"].model_copy(update={"field_order": 0, "curved": False, "background": False})
    twins["psf only"] = fit(lensed[kept], diffuser[kept], plain)
    form, ridge = twins["free form"], twins["ridge"]
    light = form.response.light(lensed[kept])
    psf = fit(light, diffuser[kept] - form.background[:, None, None], settings["ridge"]).psf
    twins["ridge+"] = FreeFormTwin(psf, ridge.start, ridge.frame_shape, form.response, form.background)
    if seen is not None:
        even = SceneResponse(torch.ones(lensed.shape[-2:]))
        psf = binned(seen[None], bin_px)[0] * bin_px**2
        twins["seen"] = FreeFormTwin(psf, ridge.start, ridge.frame_shape, even, torch.zeros(len(seen)))
    return twins


def judge(
    twins: dict[str, FreeFormTwin], settings: dict[str, Any], picture: torch.Tensor, frame: torch.Tensor
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Numbers of each kind, and the pictures to be drawn."""
    judged: dict[str, Any] = {
        "noise_floor": float(noise_variance(frame[None]).mean().sqrt() / frame.std(correction=0)),
        "raw": asdict(quality(frame * (frame * picture).sum() / frame.square().sum(), picture)),
    }
    pictures = {}
    for kind, twin in twins.items():
        predicted = twin.predict(picture[None])[0]
        gain = (predicted * frame).sum() / predicted.square().sum()
        mse = float((predicted - frame).square().mean())
        numbers = {
            "error": normalised_error(predicted, frame),
            "error_one_gain": normalised_error(predicted * gain, frame),
            "correlation": float(torch.corrcoef(torch.stack([predicted.flatten(), frame.flatten()]))[0, 1]),
            "frame_psnr_db": float(10 * np.log10(float(frame.max()) ** 2 / mse)),
        }
        methods = settings["methods"]["free form" if kind in ("free form", "psf only") else "ridge"]
        for name, method in zip(METHODS, methods, strict=True):
            pictures[kind, name] = reconstruct(frame, twin, method)
            found = quality(pictures[kind, name], picture)
            numbers[f"{name}_psnr_db"], numbers[f"{name}_ssim"] = found.psnr_db, found.ssim
        judged[kind] = numbers
        pictures[kind, "predicted"] = predicted
    return judged, pictures


def table(rows: list[dict[str, Any]]) -> str:
    """A block for each number: rows are kinds, columns folds, then the mean with its t interval."""
    lines = [
        "noise floor of the error  " + " ".join(f"{row['noise_floor']:7.3f}" for row in rows),
        "raw frame as the picture, one gain fitted: "
        + f"{np.mean([row['raw']['psnr_db'] for row in rows]):.2f} dB, "
        + f"SSIM {np.mean([row['raw']['ssim'] for row in rows]):.3f}",
    ]
    for number, digits in NUMBERS.items():
        lines += [
            "",
            f"{number:36s}" + " ".join(f"{row['picture']:>7s}" for row in rows) + "   mean (95 %, t, 6 folds)",
        ]
        values = {kind: np.array([row[kind][number] for row in rows]) for kind in KINDS if kind in rows[0]}
        for kind, found in values.items():
            lines.append(f"{KINDS[kind]:36s}" + " ".join(f"{v:7.{digits}f}" for v in found) + _mean(found, digits))
        paired = values["free form"] - values["ridge"]
        lines.append(
            f"{'free form - ridge':36s}" + " ".join(f"{v:+7.{digits}f}" for v in paired) + _mean(paired, digits)
        )
    return "\n".join(lines)


def contact_sheet(folds: list[tuple[str, dict[tuple[str, str], Array]]]) -> Figure:
    """A row for each fold: picture, frame, frame by both, picture by both. Shown upright; the files are not."""
    columns = {
        "seen through the lens": ("", "lensed"),
        "frame (real)": ("", "frame"),
        "frame, ridge": ("ridge", "predicted"),
        "frame, free form": ("free form", "predicted"),
        "Tikhonov, ridge": ("ridge", "tikhonov"),
        "Tikhonov, free form": ("free form", "tikhonov"),
        "non-negative, ridge": ("ridge", "non_negative"),
        "non-negative, free form": ("free form", "non_negative"),
    }
    figure = Figure(figsize=(2.1 * len(columns), 1.28 * len(folds) + 0.3), layout="constrained")
    for number, (places, (name, shown)) in enumerate(zip(figure.subplots(len(folds), 8), folds, strict=True)):
        for axes, (title, key) in zip(places, columns.items(), strict=True):
            bright = shown["", "frame"].max() if key[1] in ("frame", "predicted") else 1.0
            upright = np.clip(shown[key] / bright, 0, 1)[:, ::-1].transpose(1, 2, 0)
            axes.imshow(upright ** (1 / 1.6), interpolation="nearest")  # brightened for the eye
            axes.set(xticks=[], yticks=[])
            if number == 0:
                axes.set_title(title, fontsize=9)
        places[0].set_ylabel(f"left out: {name}", fontsize=8)
    return figure


def psf_sheet(shown: dict[tuple[str, str], Array]) -> Figure:
    """Green channel of the PSFs of one fold, each to its own 99.8th percentile, and the response over the field."""
    kinds = [kind for kind in KINDS if (kind, "psf") in shown]
    figure = Figure(figsize=(7.2, 2.2 * ((len(kinds) + 2) // 2)), layout="constrained")
    places = figure.subplots((len(kinds) + 2) // 2, 2).ravel()
    for axes, kind in zip(places, kinds, strict=False):
        psf = shown[kind, "psf"][1, ::-1]
        top = float(np.percentile(psf, 99.8))
        drawn = axes.imshow(psf, cmap="RdBu_r", vmin=-top, vmax=top)
        figure.colorbar(drawn, ax=axes, label="frame per picture value", shrink=0.8)
        axes.set_title(KINDS[kind], fontsize=9)
    field = places[len(kinds)].imshow(shown["free form", "field"][::-1], cmap="viridis")
    figure.colorbar(field, ax=places[len(kinds)], label="light per picture value", shrink=0.8)
    places[len(kinds)].set_title("response over the field", fontsize=9)
    for number, axes in enumerate(places):
        if number > len(kinds):
            axes.axis("off")
        axes.set(xlabel="pixels", ylabel="pixels")
    return figure


def read_pairs(given: Path | None) -> Pairs:
    """From the folder, in either of its two forms; see the top of this file."""
    if given is None:
        raise BadInput(f"no data: give --data or set LABCTL_DATA; how to get them:\n{__doc__}")
    folder = given / DATA_SET if (given / DATA_SET).is_dir() else given
    if (folder / "pairs_dev.npz").is_file():
        with np.load(folder / "pairs_dev.npz") as pairs:
            lensed, diffuser = (pairs[part] * pairs["scale"] + pairs["offset"] for part in ("lensed", "diffuser"))
            names = [str(number) for number in pairs["image_id"]]
    elif (folder / "lensed").is_dir() and (folder / "diffuser").is_dir():
        files = sorted((folder / "lensed").glob("im*.npy"))
        names = [file.stem.removeprefix("im") for file in files]
        lensed, diffuser = (
            np.stack([np.load(folder / part / file.name) for file in files]) for part in ("lensed", "diffuser")
        )
    else:
        raise BadInput(f"{folder} holds neither pairs_dev.npz nor lensed/ and diffuser/; how to get them:\n{__doc__}")
    seen = None
    if (folder / "psf_estimated.npz").is_file():
        with np.load(folder / "psf_estimated.npz") as estimate:
            seen = _channels_first(estimate["psf"][None])[0]
    return Pairs(_channels_first(lensed), _channels_first(diffuser), names, seen)


def binned(images: torch.Tensor, count: int) -> torch.Tensor:
    """Means of count x count pixels."""
    return torch.nn.functional.avg_pool2d(images, count)


def said(text: str) -> None:
    """To the terminal, at once."""
    print(text, flush=True)  # noqa: T201


def _channels_first(images: Array) -> Array:
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2), dtype=np.float32)


def _mean(values: Array, digits: int) -> str:
    half = student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return f"   {values.mean():.{digits}f} ({values.mean() - half:.{digits}f} to {values.mean() + half:.{digits}f})"


if __name__ == "__main__":
    main()
