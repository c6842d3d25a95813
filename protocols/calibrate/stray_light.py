"""Stray light: what reaches pixels that no bright part of the scene is imaged onto. And what closed cells pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
import numpy.typing as npt
from annotated_types import Ge, Gt, Le, Lt

from labctl.calibration.record import ArrayNote, Calibration, Value
from labctl.steps import StepSetting
from protocols.calibrate.dark import histogram, signal_of
from protocols.calibrate.flat import difference, disc_of
from protocols.calibrate.kind import Found, Kind
from protocols.calibrate.nonuniformity import middle
from protocols.calibrate.page import CONCLUDED, MEASURED, in_style, list_values, sheet, show_map

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from protocols.calibrate.bench import Bench, Pixels

FloatArray = npt.NDArray[np.float64]

ROOM_PX = 6.0
"""What shift, scale and blur of the shadow may move, in sensor pixels."""

LEAST_DARK_PX = 4
"""Sides in pixels of the part of the frame that must see black only."""

LEAST_LIGHT = 0.1
"""Share of the wanted signal below which there is no light to speak of."""


class StrayLight(Kind):
    """A scene with a black middle, seen through a small disc: what the middle of the frame sees is stray light.

    The same with a white and with a black scene gives the scale and the black of the display; the closed mask is taken
    off each. Light that strays evenly is the model of the twin; the page shows how even it is.
    """

    name: ClassVar[str] = "stray_light"
    title: ClassVar[str] = "Stray light and leak"
    after: ClassVar[tuple[str, ...]] = ("dark", "flat")
    beliefs: ClassVar[tuple[str, ...]] = ("light",)

    frames: Annotated[int, Ge(4), Le(1024)] = 24
    """Of each scene, through the disc and through the closed mask."""

    radius_cells: Annotated[float, Gt(0), Le(64)] = 3.0
    """Of the disc."""

    fill: Annotated[float, Gt(0), Lt(1)] = 0.8

    def exposures(self, setting: StepSetting) -> int:
        """See `Kind.exposures`."""
        return 6 * self.frames + 2 * self.frames // 3 + 30

    def measure(self, bench: Bench) -> Found:
        """See `Kind.measure`."""
        scene, dark_px = _black_middle(bench, self.radius_cells)
        disc = disc_of(bench.cells, self.radius_cells)
        ring = _through(bench, "ring", scene, disc, self.frames, self.fill)
        white = _through(bench, "white", bench.white(), disc, self.frames, self.fill)
        black = _through(bench, "black", bench.black(), disc, self.frames // 3, self.fill, like_s=ring.exposure_s)
        part = tuple(slice((n - dark_px) // 2, (n - dark_px) // 2 + dark_px) for n in bench.frame_shape)
        flat = bench.built_on["flat"].arrays["flat"]
        level, level_error = white.level(flat, (part[0], part[1]))
        of_ring, ring_error = ring.level(flat, (part[0], part[1]))
        of_black, black_error = black.level(flat, (part[0], part[1]))
        bright = float(np.mean(scene > 0.5))
        # white = (1 + stray) P; ring = (b + stray m) P, m = b + bright (1 - b); black = b (1 + stray) P
        black_share = of_black / level
        even = (of_ring - of_black) / level / (bright * (1 - black_share))
        share_error = float(np.hypot(ring_error, black_error)) / level / (bright * (1 - black_share))
        share_error = float(np.hypot(share_error, even * level_error / level))
        stray, stray_error = even / (1 - even), share_error / (1 - even) ** 2
        leak, leak_error = _leak(bench, self.frames // 3, self.fill)
        warnings = []
        if stray < -3 * stray_error:
            warnings.append("the black middle is darker than a black scene: the light changed meanwhile; measure again")
        return Found(
            values={
                "stray": Value(
                    value=max(stray, 0.0),
                    error=stray_error,
                    unit="1",
                    text="Stray light as a share of the mean irradiance",
                ),
                "leak": Value(
                    value=leak,
                    error=leak_error,
                    unit="1",
                    text="Light through the closed mask over that through the open",
                ),
                "display_black": Value(
                    value=black_share,
                    error=float(np.hypot(black_error, black_share * level_error)) / level,
                    unit="1",
                    text="Light of a black scene over that of a white one, through the disc",
                ),
            },
            arrays={
                "ring": (ring.rate / flat / level, ArrayNote(unit="1", text="Scene with a black middle, over white")),
                "scene": (scene, ArrayNote(unit="1", text="The scene with a black middle")),
                "dark_part": (np.array([dark_px, dark_px], dtype=np.float64), ArrayNote(unit="px", text="Its sides")),
            },
            warnings=tuple(warnings),
            holds_for={"frame_shape": list(bench.frame_shape), "scene_px": list(bench.scene_px), "gain_db": 0.0},
        )

    def draw(self, calibration: Calibration) -> Figure:
        """See `Kind.draw`."""
        return _page(calibration)


@dataclass(frozen=True)
class _Light:
    """(h, w) DN per second through the disc less through the closed mask, and its error."""

    rate: FloatArray
    error: FloatArray
    exposure_s: float

    def level(self, flat: FloatArray, part: tuple[slice, slice]) -> tuple[float, float]:
        """Mean over a part of the frame of what an even sensor would see, and its standard error."""
        seen = (self.rate / flat)[part]
        error = (self.error / flat)[part]
        return float(seen.mean()), float(np.sqrt((error**2).sum())) / seen.size


def _through(
    bench: Bench, name: str, scene: FloatArray, disc: FloatArray, frames: int, fill: float, like_s: float | None = None
) -> _Light:
    black_dn = bench.built_on["dark"].value("black_level_dn")
    exposure_s = like_s or bench.exposure_for(scene, disc, fill, black_dn=black_dn)
    opened = bench.frames(name, scene, disc, exposure_s, repeats=frames)[0]
    took_s = float(bench.took_s.mean())
    closed = bench.frames(f"{name}_closed", scene, bench.closed_mask(), exposure_s, repeats=frames)[0]
    if like_s is None:
        _refuse_empty(bench, opened, black_dn, fill)
    light, error = difference(opened, closed)
    return _Light(light / took_s, error / took_s, took_s)


def _refuse_empty(bench: Bench, frames: Pixels, black_dn: float, fill: float) -> None:
    brightest = float(np.quantile(frames.mean(axis=0), 0.99)) - black_dn
    if brightest < LEAST_LIGHT * fill * (bench.saturation_dn - black_dn):
        bench.refuse(
            f"the frames are empty: {brightest:.3g} DN above black at the longest exposure; look at the lamp, the "
            "shutter, the lens cap and the scene display, or give a larger `radius_cells`",
            lambda: histogram(frames, "Frames through the disc", mark=black_dn),
        )


def _black_middle(bench: Bench, radius_cells: float) -> tuple[FloatArray, int]:
    """A white scene (H, W) with a black middle, and the side in pixels of the part of the frame that sees black only.

    The black part is as small as a dark part of half the frame allows: the more light around it, the more strays.
    """
    twin = bench.rig.spec.twin
    reach_px = radius_cells * float(twin.cell_on_sensor_px) + ROOM_PX
    scene_px = float(twin.scene_px)
    dark_px = max(LEAST_DARK_PX, min(bench.frame_shape) // 2)
    side = 2 * int(np.ceil((dark_px / 2 + reach_px) / scene_px))
    if side > 0.9 * min(bench.scene_px):
        bench.refuse(
            f"a disc of {radius_cells:g} cells needs a black middle of {side} scene pixels, the scene has "
            f"{min(bench.scene_px)}: too little light is left around it; choose a smaller `radius_cells`"
        )
    scene = bench.white()
    rows, columns = bench.scene_px
    top, left = (rows - side) // 2, (columns - side) // 2
    scene[top : top + side, left : left + side] = bench.black()[0, 0]
    return scene, dark_px


def _leak(bench: Bench, frames: int, fill: float) -> tuple[float, float]:
    dark, part = bench.built_on["dark"], middle(bench.frame_shape, 0.5)
    rates, errors = [], []
    for name, mask in (("mask_open", bench.open_mask()), ("mask_closed", bench.closed_mask())):
        exposure_s = bench.exposure_for(bench.white(), mask, fill, black_dn=dark.value("black_level_dn"))
        taken = bench.frames(name, bench.white(), mask, exposure_s, repeats=max(frames, 4))[0]
        exposure_s = float(bench.took_s.mean())
        light = signal_of(taken, exposure_s, dark)[(slice(None), *part)]
        rates.append(float(light.mean()) / exposure_s)
        errors.append(float(np.sqrt(light.var(axis=0, ddof=1).mean() / light.size)) / exposure_s)
    leak = rates[1] / rates[0]
    return leak, leak * float(np.hypot(errors[0] / rates[0], errors[1] / rates[1]))


@in_style
def _page(calibration: Calibration) -> Figure:
    ring, scene = calibration.arrays["ring"], calibration.arrays["scene"]
    figure, axes = sheet(5.2, 2, 2)
    axes[0, 0].imshow(scene, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes[0, 0].grid(visible=False)
    axes[0, 0].set(xlabel="column (scene px)", ylabel="row (scene px)", title="Scene with a black middle")
    show_map(
        axes[0, 1],
        np.clip(ring, None, 3 * max(1e-4, float(np.median(ring)))),
        "Its frame over that of a white scene",
        "1",
    )
    from matplotlib.patches import Rectangle

    height, width = ring.shape
    side = int(calibration.arrays["dark_part"][0])
    corner = ((width - side) / 2 - 0.5, (height - side) / 2 - 0.5)
    axes[0, 1].add_patch(Rectangle(corner, side, side, fill=False, edgecolor=CONCLUDED, linewidth=1.2))
    top, left = (height - side) // 2, (width - side) // 2
    rows, columns = ring[top : top + side].mean(axis=0), ring[:, left : left + side].mean(axis=1)
    for values, name, colour in ((rows, "along columns", MEASURED), (columns, "along rows", CONCLUDED)):
        axes[1, 0].plot(100 * values, color=colour, label=name)
    axes[1, 0].set(xlabel="pixel", ylabel="light over that of a white scene (%)", title="Profiles, mean over the box")
    axes[1, 0].set_ylim(0, 300 * float(np.median(ring)))
    axes[1, 0].legend()
    names = (("stray", "stray light"), ("leak", "closed over open mask"), ("display_black", "black over white scene"))
    list_values(axes[1, 1], calibration, names, "Found")
    return figure
