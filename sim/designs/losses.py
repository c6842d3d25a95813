"""What a mask is asked for besides recognition: weights of the terms that are added to the loss while it learns."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from annotated_types import Ge, Gt, Le
from pydantic import model_validator

from labctl.frozen import Frozen

Weight = Annotated[float, Ge(0), Le(1e4)]


class Adversarial(Frozen):
    """An opponent that is trained in the loop, and that the mask learns to defeat. See `protocols.losses`."""

    weight: Annotated[float, Gt(0), Le(1e4)]
    """Weight of the opponent's failure: 0 while it has everything, 1 when it does no better than without frames."""

    opponent: Literal["reconstructor", "recogniser"] = "reconstructor"
    """`reconstructor`: frame to picture, scored by its error against the centre of the scene. `recogniser`: names a
    second label of the data; where the task itself is to identify, who recognises is no opponent but the task."""

    attribute: str | None = None
    """With `recogniser`: the label that shall not be named, one of `data.attributes`."""

    rate: Annotated[float, Gt(0), Le(1)] = 2e-3
    """Learning rate of the opponent (Adam)."""

    steps: Annotated[int, Ge(1), Le(100)] = 1
    """Steps of the opponent before every step of the mask, on the same frames."""

    width: Annotated[int, Ge(4), Le(128)] = 16
    """Channels of the opponent."""

    @model_validator(mode="after")
    def _a_recogniser_reads_a_label(self) -> Self:
        if (self.opponent == "recogniser") != (self.attribute is not None):
            raise ValueError("`opponent: recogniser` and `attribute: NAME` go together; give both or neither")
        return self


class MaskLosses(Frozen):
    """Weights of what is added to the identification loss, in nats per unit of the term. All terms are minimised.

    The terms have no unit and do not grow with batch, mask or scene, so that a weight means the same at 63/32 and
    127/64. Forms: slides of [Nguyen Canh et al. 2023]; how they are normalised here says `protocols.losses`.
    """

    similarity: Weight = 0.0
    """Away from the sharp picture. The slide prints the squared distance without a sign; here it counts negative."""

    total_variation: Weight = 0.0
    """More transitions between neighbouring cells: minus their share."""

    invertibility: Weight = 0.0
    """A more open mask: minus its open fraction."""

    rip: Weight = 0.0
    """More energy let through, away from a near-isometry: minus the energy of the capture over that of the scene."""

    adversarial: Adversarial | None = None

    def __bool__(self) -> bool:
        return self != MaskLosses()
