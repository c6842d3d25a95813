"""Weights from a file of the user's own: a state dict that is read without running anything in it."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from labctl.errors import BadInput

COLOURS = 3


@dataclass(frozen=True)
class Taken:
    """What could not be taken from a file as it was. fresh: keys of the last layer that keep their fresh weights.

    summed: the key of first kernels for colour that were summed for grey, if any.
    """

    fresh: tuple[str, ...] = ()
    summed: str | None = None

    def in_words(self) -> str:
        """For the log."""
        told = [f"for another number of classes than in the file, {', '.join(self.fresh)} start afresh"]
        told = told if self.fresh else []
        if self.summed:
            told.append(f"{self.summed} was summed over three colours, as grey is the same in each")
        return "; ".join(told) if told else "all of them were taken"


def take_weights(network: nn.Module, path: Path, n_classes: int, kind: str) -> Taken:
    """Put the weights of the file into `network`, in place.

    The last linear layer keeps its fresh weights where the file has none, or those of another number of classes. First
    kernels for three channels are summed where there is one. Raises BadInput, naming key and shape, for a file that
    cannot be read, is no state dict, or is that of another network.
    """
    from protocols.video.networks.library import LibraryNetwork

    holder = network.inner if isinstance(network, LibraryNetwork) else network
    wanted, state = holder.state_dict(), _state_dict(path)
    last, first = _last_layer(holder, n_classes), _first_kernels(holder)
    fits = all(key in state and state[key].shape == wanted[key].shape for key in last)
    unknown = sorted(set(state) - set(wanted) - set(last))
    chosen, summed = dict(wanted), None
    for key, here in wanted.items():
        given = state.get(key)
        if given is None:
            if key in last or key.endswith("num_batches_tracked"):
                continue
            has = f"; it has '{unknown[0]}' {_sides(state[unknown[0]])}, which is not there" if unknown else ""
            raise BadInput(f"the weights '{path}' lack '{key}' {_sides(here)} of {kind}{has}; {_advice(kind)}")
        if key in last and not fits and given.shape[1:] == here.shape[1:]:
            continue
        if key == first and _for_colour(given, here):
            given, summed = given.sum(1, keepdim=True), key
        if given.shape != here.shape:
            raise BadInput(
                f"in the weights '{path}' '{key}' has shape {_sides(given)}, {kind} needs {_sides(here)}; "
                f"{_advice(kind)}"
            )
        if not bool(torch.isfinite(given).all()):
            raise BadInput(f"in the weights '{path}' '{key}' holds NaN or infinite values; give an earlier file")
        chosen[key] = given
    if unknown:
        raise BadInput(
            f"the weights '{path}' have '{unknown[0]}' {_sides(state[unknown[0]])}, {kind} has not; {_advice(kind)}"
        )
    holder.load_state_dict(chosen)
    return Taken(() if fits else last, summed)


def weights_in_words(settings: Any, clip_shape: tuple[int, int, int, int], n_classes: int) -> str:
    """What a network of these settings takes from its file, for the log; empty if it has none."""
    if settings.weights is None:
        return ""
    bare = settings.model_copy(update={"weights": None})
    with torch.random.fork_rng(devices=[]):
        taken = take_weights(bare.build(clip_shape, n_classes), settings.weights, n_classes, settings.type)
    return f"{settings.type} starts from the weights '{settings.weights}': {taken.in_words()}"


def _state_dict(path: Path) -> Mapping[str, Tensor]:
    advice = "make it with torch.save(network.state_dict(), path)"
    try:
        held = torch.load(path, weights_only=True, map_location="cpu")
    except OSError as error:
        raise BadInput(
            f"the weights '{path}' cannot be read: {error.strerror or error}; give a file of yours, or take `weights` "
            "away: nothing is downloaded"
        ) from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise BadInput(f"'{path}' is no file of weights, or holds more than weights; {advice}") from error
    if not isinstance(held, Mapping) or not held:
        raise BadInput(f"'{path}' holds no state dict; {advice}")
    for key, value in held.items():
        if not isinstance(value, Tensor):
            raise BadInput(f"'{path}' holds no state dict, since its '{key}' is no tensor; {advice}")
    return held


def _last_layer(network: nn.Module, n_classes: int) -> tuple[str, ...]:
    """Keys of the layer that tells the classes."""
    layers = {name: part for name, part in network.named_modules() if isinstance(part, nn.Linear)}
    name = [name for name, part in layers.items() if part.out_features == n_classes][-1]
    return tuple(f"{name}.{key}" for key in layers[name].state_dict())


def _first_kernels(network: nn.Module) -> str:
    names = (name for name, part in network.named_modules() if isinstance(part, nn.Conv2d | nn.Conv3d))
    return f"{next(names)}.weight"


def _for_colour(given: Tensor, here: Tensor) -> bool:
    return (
        given.ndim == here.ndim
        and (given.shape[1], here.shape[1]) == (COLOURS, 1)
        and given.shape[0] == here.shape[0]
        and given.shape[2:] == here.shape[2:]
    )


def _sides(tensor: Tensor) -> str:
    return f"({', '.join(str(side) for side in tensor.shape)})" if tensor.ndim else "()"


def _advice(kind: str) -> str:
    return f"describe the network of the file (its type, width and depth), or give weights of this {kind}"
