"""What somebody who inverts frames believes of the camera: its design, a few known pictures, or the wrong mask."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from labctl.errors import BadInput
from protocols.cropped_deconvolution import ridge_solution
from protocols.inversion.problem import LinearCamera, frames_as_light
from protocols.keys import stream_seed
from sim.designs.base import CameraDesign

if TYPE_CHECKING:
    from labctl.steps import StepSetting
    from protocols.attack.frames import AttackedFrames
    from protocols.attack.invert import Knowledge

ROOM_PX = 3
"""Pixels round the shadow of the mask that an estimated PSF may reach into: a bench is never quite aligned."""

RIDGES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
"""Ridges that are tried for an estimated PSF; the one that foretells pairs that were left out best is taken."""

MEAN_OF = 256
"""Patterns whose mean is what is known of a mask that changes."""

PROBES = 48
"""Noise pictures that a camera without a mask formula is measured with in the twin."""

WRONG_SEED = 7919
"""Added to the seed of a design to get another of its family."""

SHIFT_CELLS = 2
"""By how much a mask without siblings is put wrong."""


@dataclass(frozen=True)
class Belief:
    """A camera that is believed in. words: how it is known."""

    camera: LinearCamera
    words: str


def light_of(frames: Tensor, seen: AttackedFrames) -> Tensor:
    """(n, 1, h, w) frames in DN as light, at the exposure of the training."""
    exposure_s = float(seen.simulation.exposure_of(seen.camera.mask).detach())
    light: Tensor = frames_as_light(frames, seen.simulation.twin, exposure_s=exposure_s)
    return light


def belief_of(
    knowledge: Knowledge,
    seen: AttackedFrames,
    setting: StepSetting,
    pairs: tuple[Tensor, Tensor],
    masks: Tensor | None,
    psf_file: Path | None = None,
) -> Belief:
    """What is believed. pairs: known scenes (n, 1, H, W) as shown and their frames as light, for `estimated`.

    masks: (N, H, W) of every frame, for `told`. psf_file: a measured PSF, for `known`.
    Raises BadInput for `told` of a mask that stands still.
    """
    design = seen.camera.design
    if knowledge == "estimated":
        camera = estimated_camera(*pairs, window_of(seen))
        return Belief(camera, f"PSF estimated from {len(pairs[0])} pairs")
    if knowledge == "told":
        if masks is None:
            raise BadInput("only a mask that changes can be told frame by frame; take `told` away, or use `known`")
        return Belief(camera_behind(masks, seen), "told the pattern of every frame")
    if knowledge == "known" and psf_file is not None:
        return Belief(measured_camera(psf_file, seen), "measured PSF")
    if knowledge == "known":
        what = "mean of all patterns known" if design.dynamic else "PSF known"
        return Belief(camera_behind(_standing_for(design), seen), what)
    mask, what = wrong_mask(setting, seen)
    return Belief(camera_behind(mask, seen), what)


def measured_camera(path: Path, seen: AttackedFrames) -> LinearCamera:
    """The camera with the PSF in a file, (h, w) as the twin has it, with the light of the twin."""
    window, believed = window_of(seen, room_px=0), seen.simulation.psf(seen.camera.mask)
    psf = read_psf(path, window.shape)
    scaled = (psf * (believed.sum() / psf.sum()))[None]
    return LinearCamera(scaled, window.start, window.frame_shape, window.scene_shape)


def read_psf(path: Path, shape: tuple[int, int]) -> Tensor:
    """(h, w) a measured PSF. Raises BadInput for a file that is none, one without light, and one of another grid."""
    full = path.expanduser()
    try:
        values = np.load(full, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise BadInput(f"'{full}' cannot be read as .npy: {error}; write it with numpy.save") from error
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiu" or values.shape != tuple(shape):
        there = "x".join(map(str, getattr(values, "shape", ()))) or "no array"
        raise BadInput(
            f"'{full}' is a PSF of another grid: {there}, and {shape[0]}x{shape[1]} sensor pixels are needed, the "
            "shadow of this mask; cut it to that, or measure it again on this grid"
        )
    psf = torch.from_numpy(values.astype(np.float32))
    if not bool(torch.isfinite(psf).all()) or float(psf.sum()) <= 0:
        raise BadInput(
            f"'{full}' holds no light, or values that are not finite; subtract the dark frame and look again"
        )
    return psf


def check_psf_file(path: Path, setting: StepSetting) -> None:
    """Raise BadInput where `read_psf` would, before anything runs."""
    from protocols.model_file import new_design
    from protocols.simulation import ExposureRule, Simulation

    design = new_design(setting)
    psf = Simulation(setting.rig, ExposureRule(1.0), design=design).psf(design.mask().detach())
    read_psf(path, (int(psf.shape[-2]), int(psf.shape[-1])))


def camera_behind(mask: Tensor, seen: AttackedFrames) -> LinearCamera:
    """The camera of the twin behind `mask` (H, W) or (N, H, W), with what its design reads out.

    Of a design that reads out in its own way, or that no panel shows, the PSF is measured in the twin, without noise.
    """
    simulation, design, scene_px = seen.simulation, seen.camera.design, seen.camera.scene_shape
    plain = type(design).readout is CameraDesign.readout
    if plain and design.on_panel:
        return LinearCamera.of_twin(simulation.twin, mask, scene_px)
    generator = torch.Generator().manual_seed(stream_seed("probes"))
    probes = torch.rand(PROBES, 1, *scene_px, generator=generator)
    with torch.no_grad():
        frames = design.readout(simulation.frames(probes, mask))
    return estimated_camera(probes, light_of(frames, seen), window_of(seen), ridges=(1e-6,))


@dataclass(frozen=True)
class Window:
    """Where a frame lies in the convolution with a PSF of `shape`, the shadow of the mask with some room round it."""

    shape: tuple[int, int]
    start: tuple[int, int]
    frame_shape: tuple[int, int]
    scene_shape: tuple[int, int]


def window_of(seen: AttackedFrames, room_px: int = ROOM_PX) -> Window:
    """The window of the frames that are attacked, with room round the shadow.

    Raises BadInput where frames are no window of a convolution.
    """
    twin, scene_px = seen.simulation.twin, seen.camera.scene_shape
    psf = seen.simulation.psf(seen.camera.mask)
    shape = (int(psf.shape[-2]), int(psf.shape[-1]))
    start, size = twin._window(scene_px, shape, None, None)
    if tuple(size) != tuple(seen.shape):
        raise BadInput(
            f"the sensor gives {size[0]}x{size[1]} pixels, the design reads {seen.shape[0]}x{seen.shape[1]} of them: "
            "its frames are no convolution; leave this design out of `attack_invert`, or use `regression` alone"
        )
    return Window(
        (shape[0] + 2 * room_px, shape[1] + 2 * room_px),
        (start[0] + room_px, start[1] + room_px),
        seen.shape,
        scene_px,
    )


def estimated_camera(
    scenes: Tensor, frames: Tensor, window: Window, ridges: tuple[float, ...] = RIDGES
) -> LinearCamera:
    """The camera whose PSF makes `frames` (n, 1, h, w) of known `scenes` (n, 1, H, W), by ridge regression.

    The ridge is chosen on a third of the pairs, then all are used. What no pair tells fades to zero. Raises BadInput
    for fewer than two pairs.
    """
    if len(scenes) < 2:
        raise BadInput(f"{len(scenes)} pairs of picture and frame; two or more are needed to estimate a PSF")
    ridge = ridges[0]
    if len(ridges) > 1:
        kept = max(1, len(scenes) * 2 // 3)
        errors = [
            float((_camera(scenes[:kept], frames[:kept], window, r).forward(scenes[kept:]) - frames[kept:]).norm())
            for r in ridges
        ]
        ridge = ridges[min(range(len(ridges)), key=errors.__getitem__)]
    return _camera(scenes, frames, window, ridge)


def wrong_mask(setting: StepSetting, seen: AttackedFrames) -> tuple[Tensor, str]:
    """(H, W) another mask of the family, or the right one put wrong where the family has one member only; in words."""
    cells = setting.protocol.grids()[1]
    settings, own = setting.design_settings(), seen.camera.mask
    other = settings.build(cells, int(setting.seed or 0) + WRONG_SEED).mask().detach()
    if torch.equal(other, own):
        shifted = torch.zeros_like(own)
        shifted[SHIFT_CELLS:, SHIFT_CELLS:] = own[:-SHIFT_CELLS, :-SHIFT_CELLS]
        return shifted, f"mask misplaced by {SHIFT_CELLS} cells"
    return other, "another mask of the family"


def _standing_for(design: CameraDesign) -> Tensor:
    """(H, W) the mask, or the mean of what is drawn."""
    if not design.dynamic:
        return design.mask().detach()
    drawn = design.draw(MEAN_OF, torch.Generator().manual_seed(stream_seed("mean pattern")))
    return drawn.detach().mean(0)


def _camera(scenes: Tensor, frames: Tensor, window: Window, ridge: float) -> LinearCamera:
    psf = ridge_solution(scenes, frames, shape=window.shape, start=window.start, ridge=ridge)
    return LinearCamera(psf, window.start, window.frame_shape, window.scene_shape)


def noise_of(believed: LinearCamera, scenes: Tensor, light: Tensor) -> float:
    """Standard deviation of what the believed camera does not foretell of frames, over the RMS of the frames."""
    rest = light - believed.some(slice(0, len(light))).forward(scenes)
    return float((rest.square().mean() / light.square().mean()).sqrt().clamp(1e-4, 1.0))
