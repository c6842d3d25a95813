"""Accelerated proximal gradients with the exact window: no negative light, and little variation or little light."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Gt, Le

from protocols.inversion.method import ClosedInversion
from protocols.inversion.variational import each_scaled

if TYPE_CHECKING:
    from torch import Tensor

    from protocols.inversion.problem import LinearCamera


class Fista(ClosedInversion):
    """Least squares under no negative light and a prior, by accelerated proximal gradients. [Beck and Teboulle 2009]

    The step follows from the largest power of the transfer function, which no window can exceed.
    """

    method: Literal["fista"] = "fista"
    prior: Literal["total_variation", "sparsity"] = "total_variation"
    strength: Annotated[float, Ge(0), Le(1)] = 1e-4
    """Of the prior: see `Prior.total_variation` and `Prior.sparsity`."""

    iterations: Annotated[int, Ge(1), Le(20_000)] = 100
    inner_iterations: Annotated[int, Ge(1), Le(1000)] = 3
    """Steps on the dual of the total variation in each iteration; it goes on where the iteration before left it."""

    brightest: Annotated[float, Gt(0), Le(1e6)] | None = 1.0
    """The most light that any place of the scene is believed to give; None: no limit."""

    def solve(self, frames: Tensor, camera: LinearCamera) -> Tensor:
        """See `ClosedInversion.solve`."""

        def descended(known: Tensor, seen: Tensor, unit: Tensor) -> Tensor:
            from protocols.inversion.proximal import accelerated_descent

            return accelerated_descent(
                known,
                seen,
                shape=camera.scene_shape,
                start=camera.start,
                total_variation=self.strength if self.prior == "total_variation" else 0.0,
                sparsity=self.strength if self.prior == "sparsity" else 0.0,
                brightest=None if self.brightest is None else unit * self.brightest,
                iterations=self.iterations,
                inner_iterations=self.inner_iterations,
            )

        return camera.radiance(each_scaled(frames, camera, descended))
