"""All methods of inversion, told apart by `method`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from protocols.inversion.variational import AdmmTv, Tikhonov
from protocols.inversion.wiener import Wiener

ClosedMethod = Annotated[Wiener | Tikhonov | AdmmTv, Field(discriminator="method")]
"""Any method that needs nothing but frames and camera: `invert(frames, camera)`."""
