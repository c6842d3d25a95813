"""Who attacks, and with how much effort: the families of recognisers and their budget.

Registered under the entry-point group `labctl.attackers`; a lab adds its own by another `AttackerSettings`.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt

from labctl.frozen import Frozen
from protocols.augmentation import Augmentation

if TYPE_CHECKING:
    from torch import nn

    from protocols.attack.cycles import Pulse
    from protocols.attack.recognisers import Effort, Labelled, Recogniser


class AttackerSettings(Frozen):
    """A recogniser that an attacker may train. A class for `labctl.attackers` also has `type: Literal["its-name"]`.

    Equal settings mean equal attackers: controls are kept by them, so nothing else may decide how one learns, such as a
    file.
    """

    @property
    def name(self) -> str:
        """How tables call it: its family, and what tells it from others of the family that are tried beside it."""
        return str(self.type)  # type: ignore[attr-defined]

    @abstractmethod
    def learn(
        self, budget: Budget, train: Labelled, val: Labelled, n_classes: int, *, seed: int, pulse: Pulse
    ) -> tuple[Recogniser, Effort]:
        """Learn from `train`; what is chosen is chosen on `val`, and equal seeds give equal answers.

        Pictures come from `train.view.pictures(places, generator)`: changed at random and exposed anew with a
        generator, as they are to be judged with None. Calls `pulse` now and then, which may raise to stop.
        """


class Linear(AttackerSettings):
    """A linear classifier of scikit-learn on normalised frames: what needs no depth at all.

    Its strength of regularisation is chosen on the validation split.
    """

    type: Literal["linear"] = "linear"

    kind: Literal["ridge", "logistic"] = "ridge"

    copies: Annotated[int, Ge(1), Le(1000)] = 4
    """Each training picture is taken so often, each time changed and exposed anew."""

    @property
    def name(self) -> str:
        """`linear`, or `linear (logistic)`."""
        return self.type if self.kind == "ridge" else f"{self.type} ({self.kind})"

    def learn(
        self, budget: Budget, train: Labelled, val: Labelled, n_classes: int, *, seed: int, pulse: Pulse
    ) -> tuple[Recogniser, Effort]:
        """See `AttackerSettings.learn`."""
        from protocols.attack.recognisers import train_linear

        return train_linear(self, train, val, seed=seed)


class Network(AttackerSettings):
    """A network that learns by gradients from fresh weights, in the cycles of the budget."""

    rate: Annotated[float, Gt(0), Le(1)] = 3e-3
    """Peak learning rate of every cycle."""

    weight_decay: Annotated[float, Ge(0), Le(1)] = 5e-4
    batch: Annotated[int, Ge(2), Le(4096)] = 32
    label_smoothing: Annotated[float, Ge(0), Lt(1)] = 0.1

    @abstractmethod
    def build(self, in_shape: tuple[int, int], n_classes: int) -> nn.Module:
        """A network from (N, 1, h, w) normalised frames to (N, n_classes) logits; in_shape is (h, w) in pixels.

        First weights come from torch's global generator. Raises BadInput for frames that are too small.
        """

    def learn(
        self, budget: Budget, train: Labelled, val: Labelled, n_classes: int, *, seed: int, pulse: Pulse
    ) -> tuple[Recogniser, Effort]:
        """See `AttackerSettings.learn`."""
        from protocols.attack.recognisers import train_network

        return train_network(self, budget, train, val, n_classes, seed=seed, pulse=pulse)


class SizedNetwork(Network):
    """A network of another family or size than the camera's own: of those in `labctl.models`, trained anew."""

    width: Annotated[int, Ge(4), Le(256)] = 16
    """Channels of the first layer."""

    @property
    def name(self) -> str:
        """Its family, with the width where that is not the usual one."""
        usual = type(self).model_fields["width"].default
        return super().name if self.width == usual else f"{super().name} (width {self.width})"


class SmallResidualAttacker(SizedNetwork):
    """The residual network that cameras are trained with by default, from fresh weights."""

    type: Literal["small-residual"] = "small-residual"

    def build(self, in_shape: tuple[int, int], n_classes: int) -> nn.Module:
        """See `Network.build`."""
        from protocols.models import SmallResidual

        return SmallResidual(width=self.width).build(in_shape, n_classes)


class PlainCnnAttacker(SizedNetwork):
    """A plain convolutional network with a hidden layer."""

    type: Literal["plain-cnn"] = "plain-cnn"
    rate: Annotated[float, Gt(0), Le(1)] = 1e-3

    def build(self, in_shape: tuple[int, int], n_classes: int) -> nn.Module:
        """See `Network.build`."""
        from protocols.attack.plain_cnn import PlainCnn

        return PlainCnn(width=self.width).build(in_shape, n_classes)


class ResNet18Attacker(SizedNetwork):
    """ResNet-18: for a GPU; a hundred times the arithmetic of `small-residual`."""

    type: Literal["resnet18"] = "resnet18"
    rate: Annotated[float, Gt(0), Le(1)] = 1e-3
    width: Annotated[int, Ge(4), Le(256)] = 64

    def build(self, in_shape: tuple[int, int], n_classes: int) -> nn.Module:
        """See `Network.build`."""
        from protocols.resnet18 import ResNet18

        return ResNet18(width=self.width).build(in_shape, n_classes)


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
