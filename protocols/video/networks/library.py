"""Frame networks of timm, torchvision and transformers, with fresh weights."""

from __future__ import annotations

import importlib
from typing import Any, cast

from torch import Tensor, nn

from labctl.errors import BadInput
from protocols.video.networks.library_settings import VIT_PATCH_PX

IN_TIMM = {
    "resnet2d-18": "resnet18",
    "resnet2d-50": "resnet50",
    "resnext2d-50": "resnext50_32x4d",
    "mobilenet-v2": "mobilenetv2_100",
    "vit-small": "vit_small_patch16_224",
}
IN_TORCHVISION = {
    "resnet2d-18": "resnet18",
    "resnet2d-50": "resnet50",
    "resnext2d-50": "resnext50_32x4d",
    "mobilenet-v2": "mobilenet_v2",
}
VIT_SMALL = {"width": 384, "layers": 12, "heads": 6, "hidden": 1536}
"""[Touvron et al. 2021]"""


class LibraryNetwork(nn.Module):
    """Resizes frames and asks the network of a library. Its state dict, without the prefix `inner.`, is theirs."""

    def __init__(self, kind: str, library: str, channels: int, shape: tuple[int, int], n_classes: int) -> None:
        super().__init__()
        self.shape = shape
        make = {"timm": _of_timm, "torchvision": _of_torchvision, "transformers": _of_transformers}[library]
        self.inner: nn.Module = make(imported(library, kind), kind, channels, shape, n_classes)

    def forward(self, frames: Tensor) -> Tensor:
        """(n, C, h, w) to (n, n_classes) logits."""
        if tuple(frames.shape[-2:]) != self.shape:
            frames = nn.functional.interpolate(frames, self.shape, mode="bilinear", antialias=True)
        answer = self.inner(frames)
        return cast(Tensor, answer if isinstance(answer, Tensor) else answer.logits)


def imported(library: str, kind: str) -> Any:
    """The package. Raises BadInput with what to install where it is missing or broken."""
    try:
        return importlib.import_module(library)
    except ModuleNotFoundError as error:
        missing = str(error.name).split(".")[0]
        needed = library if missing == library else f"{library} {missing}"
        raise BadInput(
            f"{kind} is defined by the package {library}, and {missing} is not installed; `pip install {needed}`, or "
            "take another library or one of the networks of labctl, such as small-frame"
        ) from error
    except (ImportError, RuntimeError, OSError) as error:
        raise BadInput(
            f"{kind} is defined by the package {library}, which cannot be imported: {error}; install the one "
            "that belongs to your torch"
        ) from error


def _of_timm(timm: Any, kind: str, channels: int, shape: tuple[int, int], n_classes: int) -> nn.Module:
    size = {"img_size": shape} if kind == "vit-small" else {}
    made = timm.create_model(IN_TIMM[kind], pretrained=False, in_chans=channels, num_classes=n_classes, **size)
    return cast(nn.Module, made)


def _of_torchvision(torchvision: Any, kind: str, channels: int, shape: tuple[int, int], n_classes: int) -> nn.Module:
    if kind == "vit-small":
        made = torchvision.models.VisionTransformer(
            image_size=shape[0], patch_size=VIT_PATCH_PX, num_layers=VIT_SMALL["layers"],
            num_heads=VIT_SMALL["heads"], hidden_dim=VIT_SMALL["width"], mlp_dim=VIT_SMALL["hidden"],
            num_classes=n_classes,
        )  # fmt: skip
    else:
        made = torchvision.models.get_model(IN_TORCHVISION[kind], weights=None, num_classes=n_classes)
    _read_channels(made, channels)
    return cast(nn.Module, made)


def _of_transformers(transformers: Any, kind: str, channels: int, shape: tuple[int, int], n_classes: int) -> nn.Module:
    told = {"num_channels": channels, "num_labels": n_classes}
    if kind == "vit-small":
        config = transformers.ViTConfig(
            image_size=shape, patch_size=VIT_PATCH_PX, hidden_size=VIT_SMALL["width"],
            num_hidden_layers=VIT_SMALL["layers"], num_attention_heads=VIT_SMALL["heads"],
            intermediate_size=VIT_SMALL["hidden"], **told,
        )  # fmt: skip
        return cast(nn.Module, transformers.ViTForImageClassification(config))
    if kind == "mobilenet-v2":
        return cast(nn.Module, transformers.MobileNetV2ForImageClassification(transformers.MobileNetV2Config(**told)))
    shallow = {"hidden_sizes": [64, 128, 256, 512], "depths": [2, 2, 2, 2], "layer_type": "basic"}
    config = transformers.ResNetConfig(**(shallow if kind == "resnet2d-18" else {}), **told)
    return cast(nn.Module, transformers.ResNetForImageClassification(config))


def _read_channels(network: nn.Module, channels: int) -> None:
    """Torchvision's networks are made for three channels: give them a first convolution for `channels`."""
    name, old = next((name, part) for name, part in network.named_modules() if isinstance(part, nn.Conv2d))
    if old.in_channels == channels:
        return
    shape: dict[str, Any] = {key: getattr(old, key) for key in ("kernel_size", "stride", "padding")}
    new = nn.Conv2d(channels, old.out_channels, bias=old.bias is not None, **shape)
    holder, _, last = name.rpartition(".")
    setattr(network.get_submodule(holder), last, new)
