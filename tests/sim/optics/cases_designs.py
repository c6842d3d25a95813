"""Optics behind single designs: the caustic of a diffuser, software degradations, lenses beside the panel."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from labctl.roads import MonitorRoad, PanelRoad, Roads
from sim.optics.caustic import caustic
from sim.optics.degradation import downsampled, pixelated, smoothed
from sim.twin import Twin
from tests.sim.conftest import nominal_twin
from tests.sim.optics.contract import DOUBLE, OpticCase, random

AS_BUILT = {"shift_px": (0.413, -0.271), "rotation_deg": 1.3, "scale": 1.021, "blur_px": 0.61}


def twin(dtype: torch.dtype) -> Twin:
    """A small rig that is off in everything, with grey panel, leak and stray light."""
    settings = nominal_twin(
        optics={"border": "full"},
        panel={"shape": (20, 16), "stop_px": (20, 16), "contrast": 50.0, "gamma": 2.2},
        monitor={"view_px": (6, 5)},
        light={"stray": 0.03},
        registration=AS_BUILT,
    )
    return settings.build(Roads(PanelRoad(cell_px=4, gamma=2.2), MonitorRoad(pixel_px=1)), dtype=dtype)


def light_of_weights(scene: Tensor, weights: Tensor) -> Tensor:
    """What a lens, whose weights they are, makes of a scene behind registration, blur and stray light."""
    rig = twin(scene.dtype)
    return rig.light(scene, rig.psf_of_weights(weights).reshape(-1, 1, *rig.psf_of_weights(weights).shape[-2:]))


def light_of_mask(scene: Tensor) -> Tensor:
    """The same of masks on the panel, one for each scene."""
    rig = twin(scene.dtype)
    psf = rig.psf(random(2, 5, 4, seed=9).to(scene.dtype))
    return rig.light(scene, psf[:, None])


def caustic_energy() -> tuple[float, float]:
    """Every ray lands: twelve cells of even light, wherever they are bent to."""
    return float(caustic(0.3 * random(9, 12), rays_per_cell=3, room_cells=2).sum()), 12.0


def weights_energy() -> tuple[float, float]:
    """All light of the weights passes, enlarged by the geometry and the scale: no panel takes or adds any."""
    weights = torch.zeros(5, 4, dtype=DOUBLE)
    weights[2, 2] = 20.0
    found, rig = twin(DOUBLE).psf_of_weights(weights), twin(DOUBLE)
    return float(found.sum()), 20.0 * (rig.settings.cell_on_sensor_px * float(rig.scale)) ** 2


def smoothed_energy() -> tuple[float, float]:
    frames = torch.zeros(33, 31, dtype=DOUBLE)
    frames[12:20, 11:19] = random(8, 8)
    return float(smoothed(frames, 1.3).sum()), float(frames.sum())


CASES = [
    OpticCase(
        "caustic",
        partial(caustic, rays_per_cell=3, room_cells=2),
        lambda: {"surface": 0.3 * random(9, 12)},
        energy=caustic_energy,
        is_psf=True,
        float32_rel=1e-4,
    ),
    OpticCase(
        "light of a lens",
        light_of_weights,
        lambda: {"scene": random(2, 1, 6, 5), "weights": 3 * random(5, 4, seed=1)},
        "weights",
        energy=weights_energy,
        energy_rel=3e-3,
        is_psf=True,
    ),
    OpticCase("light of many masks", light_of_mask, lambda: {"scene": random(2, 1, 6, 5)}, "scene"),
    OpticCase(
        "software blur",
        partial(smoothed, sigma_px=0.87),
        lambda: {"frames": random(2, 1, 6, 7)},
        "frames",
        energy=smoothed_energy,
        is_psf=True,
    ),
    OpticCase("pixelation", partial(pixelated, block_px=3), lambda: {"frames": random(2, 1, 7, 6)}, "frames"),
    OpticCase("down-sampling", partial(downsampled, factor=3), lambda: {"frames": random(2, 1, 7, 6)}, "frames"),
]
