"""The PSF of a mask on the bench, in the middle of the field, away from it, and at several depths."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from annotated_types import Ge, Gt, Le, MaxLen, MinLen

from labctl.calibration.record import ArrayNote, Calibration, Value
from labctl.errors import BadInput
from labctl.frozen import Frozen
from labctl.steps import StepSetting
from protocols.calibrate.brightness_ladder import exposure_up_to
from protocols.calibrate.kind import DAY_S, Found, Kind
from protocols.calibrate.psf_alignment import Alike, compare

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from protocols.calibrate.bench import Bench

Array = npt.NDArray[np.float64]

FILL = 0.6
TEST_SHARE = 0.4
"""Side of the test mask over that of the panel: its shadow then stays on the sensor away from the middle, too."""

TEST_CELL = 2
TEST_SEED = 7
ROOM_PX = 3
"""Round the shadow, for registration and blur."""

LEAST_SNR = 5.0
LEAST_CORRELATION = 0.9
"""Below it, one PSF does not stand for the field."""

SCENE_CELL_PX = 3
SCENE_SEED = 11


class DepthScan(Frozen):
    """An instrument that moves the scene, and where it shall move it."""

    quantity: str
    """`instrument.quantity`."""

    values: Annotated[tuple[float, ...], MinLen(2), MaxLen(64)]
    """In the unit of the quantity; the first one is the reference."""


class PointSpread(Kind):
    """One bright scene pixel through a mask, from several places of the field; or known random scenes, deconvolved."""

    name: ClassVar[str] = "psf"
    title: ClassVar[str] = "Point spread function"
    after: ClassVar[tuple[str, ...]] = ("dark", "flat", "registration")
    beliefs: ClassVar[tuple[str, ...]] = ("optics", "roads")

    max_age_s: Annotated[float, Gt(0), Le(366 * DAY_S)] = 7 * DAY_S

    by: Literal["point", "scenes"] = "point"
    """How the PSF is got: from a bright pixel, or by deconvolution of random scenes, which gives more light."""

    mask: Path | None = None
    """.npy array or picture with one value per cell; None: a random test mask in the middle of the panel."""

    field_points: Literal[1, 5, 9] = 5
    """The middle alone, with the corners, or with corners and edges of the field."""

    field_step_px: Annotated[int, Ge(1), Le(256)] = 6
    """From the middle to those, in scene pixels."""

    depth: DepthScan | None = None

    scenes: Annotated[int, Ge(16), Le(1024)] = 48
    """Random scenes, where they are used."""

    ridge: Annotated[float, Gt(0), Le(10)] = 1e-3
    """Of their deconvolution, as a share of the energy of the scenes."""

    repeats: Annotated[int, Ge(2), Le(256)] = 4
    """Frames of each place; an even number, compared half by half."""

    longest_s: Annotated[float, Gt(0), Le(60)] = 0.5

    def exposures(self, setting: StepSetting) -> int:
        """See `Kind.exposures`."""
        depths = 0 if self.depth is None else 2 * len(self.depth.values)
        places = self.field_points if self.by == "point" else 0
        return self.repeats * (places + 1 + depths) + (self.scenes + 8 if self.by == "scenes" else 0) + 8

    def exposure_seconds(self, setting: StepSetting) -> float:
        """See `Kind.exposure_seconds`."""
        return self.longest_s * self.exposures(setting)

    def measure(self, bench: Bench) -> Found:
        """See `Kind.measure`."""
        mask = self._mask(bench)
        if self.by == "scenes":
            return _by_scenes(bench, self, mask)
        return _by_points(bench, self, mask)

    def method(self) -> dict[str, Any]:
        """See `Kind.method`. A mask is told by its content: a changed file is another mask."""
        told = super().method()
        if self.mask is not None:
            from sim.designs.mask_file import mask_file_hash

            told["mask_sha256"] = mask_file_hash(self.mask)
        return told

    def draw(self, calibration: Calibration) -> Figure:
        """See `Kind.draw`."""
        from protocols.calibrate.psf_page import psf_page

        return psf_page(calibration)

    def _mask(self, bench: Bench) -> Array:
        if self.mask is None:
            return test_mask(bench.cells)
        from sim.designs.mask_file import read_mask

        return read_mask(self.mask, bench.cells)


def test_mask(cells: tuple[int, int]) -> Array:
    """(H, W) random blocks of 2x2 cells in the middle of a closed mask, the same ones each time."""
    blocks = [max(2, int(TEST_SHARE * n / TEST_CELL)) for n in cells]
    drawn = np.random.Generator(np.random.PCG64(TEST_SEED)).random(blocks) < 0.5
    grown = np.kron(drawn, np.ones((TEST_CELL, TEST_CELL)))
    mask = np.zeros(cells)
    top, left = ((n - part) // 2 for n, part in zip(cells, grown.shape, strict=True))
    mask[top : top + grown.shape[0], left : left + grown.shape[1]] = grown
    return mask


test_mask.__test__ = False  # type: ignore[attr-defined]  # its name is no test's


def field_places(count: int, step: int) -> list[tuple[int, int]]:
    """Places in scene pixels from the middle: the middle, then corners, then edges."""
    corners = [(-step, -step), (-step, step), (step, -step), (step, step)]
    edges = [(-step, 0), (0, -step), (0, step), (step, 0)]
    return [(0, 0), *corners, *edges][:count]


def _by_points(bench: Bench, kind: PointSpread, mask: Array) -> Found:
    pitch_px = bench.built_on["registration"].value("scene_pitch_px")
    places = field_places(kind.field_points, kind.field_step_px)
    half = _half_window(bench, mask, kind, pitch_px)
    exposure_s = exposure_up_to(bench, _point(bench, (0, 0)), mask, fill=FILL, longest_s=kind.longest_s)
    black = bench.frames("black", bench.black(), mask, exposure_s, repeats=kind.repeats)[0].astype(np.float64)

    def psf(place: tuple[int, int], **tells: Any) -> tuple[Array, Array]:
        """Two independent measurements (h, w) in DN per second."""
        named = {"row": [place[0]], "column": [place[1]], **tells}
        frames = bench.frames("point", _point(bench, place), mask, exposure_s, repeats=kind.repeats, **named)[0]
        halves = frames.astype(np.float64) - black
        flat = np.asarray(bench.built_on["flat"].arrays["flat"], dtype=np.float64)
        taken_s = float(bench.took_s[-1])
        first, second = (halves[part::2].mean(axis=0) / flat / taken_s for part in (0, 1))
        return first, second

    pairs = [psf(place, depth=[np.nan]) for place in places]
    _refuse_dark(bench, pairs[0])
    alike = [
        compare(pairs[0], pair, pitch_px * np.array(place), half) for pair, place in zip(pairs, places, strict=True)
    ]
    values = _field_values(alike, places, pitch_px)
    arrays: dict[str, tuple[npt.NDArray[Any], ArrayNote]] = {
        "psf": (np.stack([(a + b) / 2 for a, b in pairs]), ArrayNote(unit="DN/s", text="At each place of `field`")),
        "field": (np.array(places), ArrayNote(unit="px", text="Scene pixels from the middle, rows and columns")),
        "field_table": (_rows(alike), ArrayNote(unit="px, 1", text=TABLE_COLUMNS)),
        "mask": (mask, ArrayNote(unit="1", text="Transmittance of the mask")),
    }
    warnings = []
    if len(places) > 1 and min(each.correlation for each in alike) < LEAST_CORRELATION:
        worst = min(each.correlation for each in alike)
        warnings.append(f"the PSF changes over the field (correlation down to {worst:.2f}): one is not enough")
    if kind.depth is not None:
        table = _over_depth(bench, kind.depth, lambda depth: psf((0, 0), depth=[depth]), half)
        arrays["depth"] = (
            np.array(kind.depth.values),
            ArrayNote(unit=_unit(bench, kind.depth), text=kind.depth.quantity),
        )
        arrays["depth_table"] = (_rows(table), ArrayNote(unit="px, 1", text=TABLE_COLUMNS))
        values["depth_correlation"] = Value(
            value=min(each.correlation for each in table),
            error=None,
            unit="1",
            text=f"Least correlation over {kind.depth.quantity} {kind.depth.values[0]:g}..{kind.depth.values[-1]:g}",
        )
    return Found(values=values, arrays=arrays, warnings=tuple(warnings), holds_for=_holds(bench))


TABLE_COLUMNS = "shift row, column; their errors; correlation; sharpness; light, against the first"


def _field_values(alike: list[Alike], places: list[tuple[int, int]], pitch_px: float) -> dict[str, Value]:
    off = np.array([each.shift_px - pitch_px * np.array(place) for each, place in zip(alike, places, strict=True)])
    error = np.array([each.shift_error_px for each in alike])
    far = int(np.argmax(np.abs(off).max(axis=1)))
    sharp = [each.sharpness for each in alike]
    return {
        "field_correlation": Value(
            value=min(each.correlation for each in alike),
            error=None,
            unit="1",
            text="Least one with the middle, no noise",
        ),
        "field_shift_px": Value(
            value=float(np.abs(off[far]).max()),
            error=float(error[far].max()),
            unit="px",
            text="Farthest that a PSF lies off where one scene pitch per scene pixel puts it",
        ),
        "field_sharpness": Value(
            value=(float(min(sharp)), float(max(sharp))),
            error=None,
            unit="1",
            text="Least and greatest, the middle is 1",
        ),
        "field_light": Value(
            value=(min(each.light for each in alike), max(each.light for each in alike)),
            error=None,
            unit="1",
            text="Least and greatest sum of a PSF, the middle is 1",
        ),
    }


def _over_depth(bench: Bench, scan: DepthScan, psf: Any, half: int) -> list[Alike]:
    """The PSF in the middle at every position, against the first; the scene goes back afterwards."""
    from protocols.capture.metadata import InstrumentReadings, set_instruments

    instrument, _, quantity = scan.quantity.partition(".")
    before = InstrumentReadings(bench.rig, 0.0).now().get(scan.quantity)
    if before is None:
        there = ", ".join(InstrumentReadings(bench.rig, 0.0).now()) or "none"
        raise BadInput(f"psf.depth.quantity is '{scan.quantity}'; this rig has {there}", at=("depth", "quantity"))
    pairs = []
    try:
        for value in scan.values:
            set_instruments({instrument: {quantity: value}}, bench.rig)
            pairs.append(psf(value))
    finally:
        set_instruments({instrument: {quantity: before}}, bench.rig)
    return [compare(pairs[0], pair, np.zeros(2), half) for pair in pairs]


def _by_scenes(bench: Bench, kind: PointSpread, mask: Array) -> Found:
    from protocols.twin_fit.free_form import ridge_psf

    scenes = random_scenes(kind.scenes, bench.scene_px)
    held = max(4, kind.scenes // 8)
    exposure_s = exposure_up_to(bench, bench.white(), mask, fill=FILL, longest_s=kind.longest_s)
    black = (
        bench.frames("black", bench.black(), mask, exposure_s, repeats=kind.repeats)[0].astype(np.float64).mean(axis=0)
    )
    frames = bench.frames("scenes", scenes, mask, exposure_s, number=np.arange(len(scenes)))[:, 0].astype(np.float64)
    flat = np.asarray(bench.built_on["flat"].arrays["flat"], dtype=np.float64)
    light = ((frames - black) / flat / float(bench.took_s[-1]))[:, None]
    shadow = bench.rig.spec.twin.shadow_shape(bench.cells)
    shape = (shadow[0] + 2 * ROOM_PX, shadow[1] + 2 * ROOM_PX)
    if min(np.array(bench.scene_px) - shape) < 0:
        shape = shadow
    given = {"psf_shape": shape, "ridge": kind.ridge}
    psf = np.asarray(ridge_psf(scenes[held:, None], light[held:], **given))[0]
    error = _prediction_error(scenes[:held], light[:held, 0], psf)
    if not error < 1:
        bench.refuse(
            f"the random scenes do not explain the frames (error {error:.2f} of their spread): no light, or scene and "
            "sensor are not registered; run `registration` and `monitor` first"
        )
    values = {
        "prediction_error": Value(
            value=error, error=None, unit="1", text=f"RMS over spread, on {held} scenes that the PSF did not see"
        )
    }
    arrays = {
        "psf": (psf[None], ArrayNote(unit="DN/s", text="By ridge regression from random scenes")),
        "field": (np.zeros((1, 2)), ArrayNote(unit="px", text="Of the whole field")),
        "mask": (mask, ArrayNote(unit="1", text="Transmittance of the mask")),
    }
    return Found(values=values, arrays=arrays, holds_for=_holds(bench))


def random_scenes(count: int, shape: tuple[int, int]) -> Array:
    """(N, H, W) scenes of random black and white blocks, the same ones each time."""
    stream = np.random.Generator(np.random.PCG64(SCENE_SEED))
    blocks = [-(-n // SCENE_CELL_PX) + 1 for n in shape]
    scenes = []
    for _ in range(count):
        fine = np.kron(stream.random(blocks) < 0.5, np.ones((SCENE_CELL_PX, SCENE_CELL_PX)))
        top, left = stream.integers(0, SCENE_CELL_PX, 2)  # edges of blocks fall on every pixel in turn
        scenes.append(fine[top : top + shape[0], left : left + shape[1]])
    return np.stack(scenes)


def _prediction_error(scenes: Array, light: Array, psf: Array) -> float:
    """RMS error of predicted frames over the spread of the frames."""
    from scipy.signal import fftconvolve

    rows, columns = light.shape[-2:]
    full = np.stack([fftconvolve(scene, psf, mode="full") for scene in scenes])
    top, left = (full.shape[1] - rows) // 2, (full.shape[2] - columns) // 2
    seen = full[:, top : top + rows, left : left + columns]
    spread = light - light.mean(axis=(1, 2), keepdims=True)
    return float(np.sqrt(((seen - light) ** 2).mean() / max((spread**2).mean(), 1e-300)))


def _half_window(bench: Bench, mask: Array, kind: PointSpread, pitch_px: float) -> int:
    """Half-width of the windows that hold the shadow of the open part of `mask`, and still fit off the middle."""
    open_rows, open_columns = (np.flatnonzero(mask.max(axis=axis) > 0.5) for axis in (1, 0))
    cell_px = bench.rig.spec.twin.cell_on_sensor_px
    if len(open_rows) == 0:
        raise BadInput("the mask of `psf` has no open cell; give another one", at=("mask",))
    middle = (np.array(bench.cells) - 1) / 2
    reach = max(float(np.abs(n - m).max()) + 0.5 for n, m in zip((open_rows, open_columns), middle, strict=True))
    wanted = int(np.ceil(reach * cell_px)) + ROOM_PX
    room = int(min(bench.frame_shape) / 2 - np.ceil(pitch_px * kind.field_step_px if kind.field_points > 1 else 0))
    if room < 5:
        raise BadInput(
            f"field_step_px is {kind.field_step_px}; the frame has {min(bench.frame_shape)} pixels: step less",
            at=("field_step_px",),
        )
    return min(wanted, room)


def _point(bench: Bench, place: tuple[int, int]) -> Array:
    scene = bench.black()
    scene[bench.scene_px[0] // 2 + place[0], bench.scene_px[1] // 2 + place[1]] = 1.0
    return scene


def _refuse_dark(bench: Bench, pair: tuple[Array, Array]) -> None:
    a, b = (each - each.mean() for each in pair)
    noise = float(np.sqrt(((a - b) ** 2).mean() / 2))
    signal = float(np.sqrt(max(float((a * b).mean()), 0.0)))
    if signal * np.sqrt(a.size) < LEAST_SNR * noise:
        bench.refuse(
            "the point of light is not seen through the mask; raise longest_s or repeats, use `by: scenes`, or check "
            "lamp and monitor"
        )


def _rows(table: list[Alike]) -> Array:
    return np.array(
        [[*each.shift_px, *each.shift_error_px, each.correlation, each.sharpness, each.light] for each in table]
    )


def _unit(bench: Bench, scan: DepthScan) -> str:
    instrument, _, quantity = scan.quantity.partition(".")
    return str(bench.rig.devices().instruments[instrument].quantities[quantity].unit)


def _holds(bench: Bench) -> dict[str, Any]:
    return {
        "frame_shape": list(bench.frame_shape),
        "mask_cells": list(bench.cells),
        "scene_px": list(bench.scene_px),
    }
