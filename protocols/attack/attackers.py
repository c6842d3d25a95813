"""Who attacks, and with how much effort: the families of recognisers and their budget."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import AfterValidator, Field

from labctl.frozen import Frozen
from protocols.augmentation import Augmentation


class Linear(Frozen):
    """A linear classifier of scikit-learn on normalised frames: what needs no depth at all.

    Its strength of regularisation is chosen on the validation split.
    """

    type: Literal["linear"] = "linear"

    kind: Literal["ridge", "logistic"] = "ridge"

    copies: Annotated[int, Ge(1), Le(1000)] = 4
    """Each training picture is taken so often, each time changed and exposed anew."""


class Network(Frozen):
    """A network of another family or size than the camera's own: any of `labctl.models`, trained anew."""

    rate: Annotated[float, Gt(0), Le(1)] = 3e-3
    """Peak learning rate of every cycle."""

    weight_decay: Annotated[float, Ge(0), Le(1)] = 5e-4
    batch: Annotated[int, Ge(2), Le(4096)] = 32
    label_smoothing: Annotated[float, Ge(0), Lt(1)] = 0.1
    width: Annotated[int, Ge(4), Le(256)] = 16
    """Channels of the first layer."""


class SmallResidualAttacker(Network):
    """The residual network that cameras are trained with by default, from fresh weights."""

    type: Literal["small-residual"] = "small-residual"


class PlainCnnAttacker(Network):
    """A plain convolutional network with a hidden layer."""

    type: Literal["plain-cnn"] = "plain-cnn"
    rate: Annotated[float, Gt(0), Le(1)] = 1e-3


class ResNet18Attacker(Network):
    """ResNet-18: for a GPU; a hundred times the arithmetic of `small-residual`."""

    type: Literal["resnet18"] = "resnet18"
    rate: Annotated[float, Gt(0), Le(1)] = 1e-3
    width: Annotated[int, Ge(4), Le(256)] = 64


Attacker = Annotated[Linear | SmallResidualAttacker | PlainCnnAttacker | ResNet18Attacker, Field(discriminator="type")]
"""Any recogniser that an attacker may train."""


def _each_once(attackers: tuple[Linear | Network, ...]) -> tuple[Linear | Network, ...]:
    names = [name_of(attacker) for attacker in attackers]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{', '.join(twice)} stands twice; name each attacker once")
    return attackers


Attackers = Annotated[tuple[Attacker, ...], MinLen(1), AfterValidator(_each_once)]
"""Attackers that are all tried; the strongest counts."""


def name_of(attacker: Linear | Network) -> str:
    """How tables call it: its family, with the width where that is not the usual one."""
    name: str = attacker.type  # type: ignore[union-attr]
    usual = type(attacker).model_fields.get("width")
    width = getattr(attacker, "width", None)
    if isinstance(attacker, Linear):
        return name if attacker.kind == "ridge" else f"{name} ({attacker.kind})"
    return name if usual is None or width == usual.default else f"{name} (width {width})"


class Budget(Frozen):
    """How long an attacker may learn.

    Networks learn in cycles, each twice as long as the one before and each starting at the peak rate again
    [Loshchilov and Hutter 2017]. A cycle that does not better the validation loss ends the training: it has converged.
    Where the budget ends it first, that is said beside the result, which is then a lower bound.
    """

    epochs: Annotated[int, Ge(1), Le(10_000)] = 70
    """In all cycles together; the last one is cut where it would not fit."""

    first_cycle: Annotated[int, Ge(1), Le(10_000)] = 10
    """Epochs of the first cycle."""

    patience: Annotated[int, Ge(1), Le(100)] = 1
    """Cycles without a better validation loss that end the training."""

    augmentation: Augmentation = Augmentation(shift_px=3, flip=True)
    """How an attacker changes its training pictures at random; of captured frames only the shift is taken. No `flip`
    where handedness means something (digits)."""
