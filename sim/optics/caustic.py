"""The caustic behind a smooth thin diffuser: where a refracting surface throws even light, by rays."""

from __future__ import annotations

import torch
from torch import Tensor

from labctl.errors import BadInput


def caustic(surface: Tensor, *, rays_per_cell: int, room_cells: int) -> Tensor:
    """Weights that an evenly lit refracting surface throws onto a plane behind it, in units of one open cell.

    surface: (h r, w r) with r = `rays_per_cell`, in cells squared: height times (n - 1) times the distance to the
    plane, over the side of a cell squared. A ray is bent by the slope of the surface, towards where it is higher, and
    lands as many cells away as the slope says. Thin surface, small angles, no diffraction: the bright lines are the
    caustics of geometry. [Antipa et al. 2018]
    Returns (h + 2 room, w + 2 room), nowhere negative; the sum is h w: every ray is shared by the four cells nearest
    to where it lands, and none is lost. Raises BadInput when a ray lands outside.
    """
    height, width = surface.shape
    if height % rays_per_cell or width % rays_per_cell or min(height, width) < 2:
        raise BadInput(
            f"the surface has {height}x{width} rays; a whole number of cells of {rays_per_cell} rays is needed, "
            "and two rays or more along each side"
        )
    slopes = torch.gradient(surface, spacing=1 / rays_per_cell)
    canvas = (height // rays_per_cell + 2 * room_cells, width // rays_per_cell + 2 * room_cells)
    places = [
        slope + _unbent(rays, rays_per_cell, room_cells).to(surface).reshape(shape)
        for rays, slope, shape in zip((height, width), slopes, ((-1, 1), (1, -1)), strict=True)
    ]
    for place, side in zip(places, canvas, strict=True):
        furthest = max(-float(place.detach().min()), float(place.detach().max()) - (side - 1))
        if furthest > 0:
            raise BadInput(
                f"a ray lands {furthest:.2f} cells outside of {canvas[0]}x{canvas[1]}; bend less or give more room"
            )
    return _splat(places[0], places[1], canvas) / rays_per_cell**2


def _unbent(rays: int, rays_per_cell: int, room_cells: int) -> Tensor:
    """(rays,) where the rays along one axis land unbent, in cells from the middle of the first cell of the canvas."""
    return (torch.arange(rays, dtype=torch.float64) + 0.5) / rays_per_cell - 0.5 + room_cells


def _splat(rows: Tensor, columns: Tensor, canvas: tuple[int, int]) -> Tensor:
    """(H, W) sum of rays at (rows, columns), each shared bilinearly by the four nearest cells."""
    top, left = (
        place.detach().floor().clamp(0, side - 2).long() for place, side in zip((rows, columns), canvas, strict=True)
    )
    below, right = rows - top, columns - left
    weights = rows.new_zeros(canvas[0] * canvas[1])
    for down, of_row in ((0, 1 - below), (1, below)):
        for across, of_column in ((0, 1 - right), (1, right)):
            place = (top + down) * canvas[1] + left + across
            weights = weights.index_add(0, place.flatten(), (of_row * of_column).flatten())
    return weights.reshape(canvas)
