"""The opponents of a camera in training: networks that name the actor from single frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from protocols.keys import stream_seed


class Opponents(nn.Module):
    """One or several privacy networks. Each learns by itself; the camera minds the one that is surest."""

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def entropy(self, frames: Tensor) -> Tensor:
        """() mean entropy in nats of the surest one, with gradients to the frames (m, C, h, w) alone.

        Weights are held; statistics of batch normalisation follow, as in the authors' code.
        """
        found = []
        for network in self.networks:
            held = {name: weight.detach() for name, weight in network.named_parameters()}
            logs = torch.func.functional_call(network, held, (frames,)).log_softmax(1)
            found.append(-(logs.exp() * logs).sum(1).mean())
        return torch.stack(found).min()

    def loss(self, frames: Tensor, actors: Tensor) -> Tensor:
        """() cross-entropy in nats, summed over networks. frames: (m, C, h, w); actors: (m,)."""
        losses = [nn.functional.cross_entropy(network(frames), actors) for network in self.networks]
        return torch.stack(losses).sum()

    @torch.no_grad()
    def right(self, clips: Tensor, actors: Tensor) -> float:
        """Share of frames of clips (n, T, C, h, w) that the best of them names right."""
        shares = []
        for network in self.networks:
            named = network(clips.flatten(0, 1)).argmax(1)
            shares.append(float((named == actors.repeat_interleave(clips.shape[1])).double().mean()))
        return max(shares)


def restart(
    opponents: Opponents, number: int, build: Any, optimiser: torch.optim.Optimizer, seed: int, step: int
) -> None:
    """Give one opponent fresh weights, and let the optimiser forget it."""
    torch.manual_seed(stream_seed(seed, "restart", step))
    network = opponents.networks[number]
    network.load_state_dict(build().state_dict())
    for weight in network.parameters():
        optimiser.state.pop(weight, None)


class _Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, weight: float) -> Tensor:
        ctx.weight = weight
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return -ctx.weight * grads[0], None


def reversed_gradient(values: Tensor, weight: float) -> Tensor:
    """The same values; their gradient goes on with the sign turned and times `weight`. [Ganin and Lempitsky 2015]"""
    found: Tensor = _Reversed.apply(values, weight)
    return found
