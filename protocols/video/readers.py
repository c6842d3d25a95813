"""How tables call the networks that read clips."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from labctl.steps import StepContext

Some = TypeVar("Some", bound=tuple[Any, ...])


def name_of(network: Any) -> str:
    """Its type, with the settings that are not the usual ones: `small-3d (width 8)`. Of a file, its name alone."""
    usual = type(network).model_fields
    unusual = [
        f"{key} {value.name if isinstance(value, Path) else value}"
        for key, value in network.model_dump().items()
        if key != "type" and key in usual and value != usual[key].default
    ]
    return f"{network.type} ({', '.join(unusual)})" if unusual else str(network.type)


def file_name_of(network: Any) -> str:
    """`name_of` with letters that every file system takes."""
    return re.sub(r"[^A-Za-z0-9.-]+", "_", name_of(network)).strip("_")


def each_once(networks: Some) -> Some:
    """Raises ValueError for a network that is named twice."""
    names = [name_of(network) for network in networks]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{', '.join(twice)} stands twice; name each network once")
    return networks


def fingerprint_of(networks: Iterable[Any]) -> str:
    """For `Step.fingerprint`: what the files hold that networks start from. Empty where none of them has one."""
    held = [network.fingerprint() for network in networks]
    return hashlib.sha256(" ".join(held).encode()).hexdigest() if any(held) else ""


def say_weights(context: StepContext, network: Any, clip_shape: tuple[int, ...], n_classes: int) -> None:
    """Log what a network takes from the file that it starts from. clip_shape: (T', C, h, w)."""
    from protocols.video.networks.weights import weights_in_words

    frames, channels, height, width = clip_shape
    if told := weights_in_words(network, (frames, channels, height, width), n_classes):
        context.log(told)
