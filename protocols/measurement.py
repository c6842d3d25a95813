"""From frames in DN of the bench to measurements: frames in DN as the nominal twin of the rig file would give them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from labctl.calibration.record import Array, Calibration
from labctl.calibration.use import usable
from labctl.errors import BadInput
from labctl.frames.corrections import LEAST_RESPONSE

if TYPE_CHECKING:
    from torch import Tensor

    from labctl.rig_file import RigSpec

Part = Literal["dark", "flat", "gain", "registration"]

STANDS_ON: Mapping[Part, str] = {
    "dark": "dark",
    "flat": "flat",
    "gain": "photon_transfer",
    "registration": "registration",
}
"""The calibration that each part of the correction needs. Also the order in which they are applied."""

Corrections = tuple[Part, ...] | Literal["all"]
"""As a step names them: these parts, or all that the calibrations allow. Empty: frames stay as they are."""


def parts_of(corrections: Corrections, calibrations: Mapping[str, Calibration]) -> tuple[Part, ...]:
    """The parts that `corrections` means, in the order in which they are applied."""
    if corrections == "all":
        return tuple(part for part, kind in STANDS_ON.items() if kind in calibrations)
    return tuple(part for part in STANDS_ON if part in corrections)


@dataclass(frozen=True)
class Measurement:
    """The correction of frames, linear and differentiable. Make one by `of`.

    Light is what stands above dark. dark_dn, dark_rate_dn_per_s: (h, w), of the bench as far as `dark` is corrected,
    else as the twin believes. response: (h, w) what light is multiplied with. places: (h, w, 2) where every pixel of
    the result is read in the frame (x, y in -1..1), None where it stays; brightness: what a shadow of another scale
    takes. black_dn, black_rate_dn_per_s, even: (h, w) offset, dark signal and response of the nominal sensor.
    """

    parts: tuple[Part, ...]
    dark_dn: Tensor
    dark_rate_dn_per_s: Tensor
    response: Tensor
    places: Tensor | None
    brightness: float
    black_dn: Tensor
    black_rate_dn_per_s: Tensor
    even: Tensor
    gain: float = 1.0
    light_s: float | None = None
    """Exposure for which wanted light alone is told; None leaves it as it was exposed. See `lasting`."""

    @staticmethod
    def of(
        spec: RigSpec,
        calibrations: Mapping[str, Calibration],
        parts: Corrections,
        frame_shape: tuple[int, int],
        say: Callable[[str], None] = lambda text: None,
    ) -> Measurement:
        """The correction of frames of `frame_shape` (rows, columns) by these calibrations.

        say: is told of stale calibrations. Raises BadInput when a part has no calibration, one of another bench, or one
        of frames of another size.

        `registration` brings the mask back to where it was designed to be. A lensless frame is the scene convolved with
        the shadow of the mask. Read at T u = shift + A u, with A = scale R(rotation), a frame through the shadow
        m(T^-1 u) is det A times the frame of the designed mask m for a scene turned by R^-1 and shrunk by `scale` about
        the centre. So a shift is undone exactly, the mask always, and the scene pays with a turn that augmentation
        covers. What lies beyond the edge is filled by the nearest pixel. Tilt and distortion cannot be undone so: they
        vary over the mask, not over the frame; they need a fitted twin.

        `gain` tells the light in electrons of the nominal sensor. Where the exposure was searched on the bench (`auto`)
        say so by `searched`.
        """
        import torch

        from sim.sensor import Sensor

        parts = parts_of(parts, calibrations)
        used = usable(calibrations, (STANDS_ON[part] for part in parts), spec, say)
        nominal = Sensor(spec.twin.sensor)
        ones = torch.ones(frame_shape)
        black, even = (ones * values.detach() for values in (nominal.offset_dn(frame_shape), nominal.flat(frame_shape)))
        rate = ones * float(spec.twin.sensor.dark_current_e_per_s * nominal.gain_dn_per_e)
        dark, dark_rate = black, rate
        if "dark" in parts:
            dark = _map(used["dark"], "dark_dn", frame_shape)
            has_rate = "dark_rate_dn_per_s" in used["dark"].arrays
            dark_rate = _map(used["dark"], "dark_rate_dn_per_s", frame_shape) if has_rate else torch.zeros_like(dark)
        response = ones
        if "flat" in parts:
            flat = _map(used["flat"], "flat", frame_shape)
            # As in `flat_response`: a pixel that sees next to nothing has no signal worth scaling up.
            response = torch.where(flat >= LEAST_RESPONSE, 1 / flat.clamp(min=LEAST_RESPONSE), torch.zeros_like(flat))
        gain = 1.0
        if "gain" in parts:
            gain = float(nominal.gain_dn_per_e) / used["photon_transfer"].value("gain_dn_per_e")
            response = response * gain
        places, scale = None, 1.0
        if "registration" in parts:
            registration = used["registration"]
            scale = registration.value("scale")
            places = torch.from_numpy(
                _places(registration.vector("shift_px"), registration.value("rotation_rad"), scale, frame_shape)
            )
        return Measurement(
            parts=parts,
            dark_dn=dark,
            dark_rate_dn_per_s=dark_rate,
            response=response,
            places=places,
            brightness=1 / scale**2,
            black_dn=black,
            black_rate_dn_per_s=rate,
            even=even if "flat" in parts else ones,
            gain=gain,
        )

    def searched(self) -> Measurement:
        """The same, for frames whose exposure was searched on the bench (`auto`), as in the training.

        The search holds white at the same share of full scale. It has already exposed shorter for a shadow that is
        larger, and longer for a gain that is lower: neither may change the level a second time.
        """
        return replace(self, response=self.response / self.gain, gain=1.0, brightness=1.0)

    def lasting(self, light_s: float) -> Measurement:
        """The same, for a camera that was trained at exposures of `light_s` seconds, under the light of this bench.

        A search for the exposure on the bench (`auto`) counts what leaks through closed cells, and exposes shorter for
        it. Once the leak is taken off, wanted light is as much too dark: at a contrast of 34:1 and 2 % of open cells,
        less than half. So it is told for the time of the training. Frames that still hold their leak are left as bright
        as the search made them.
        """
        return replace(self, light_s=light_s)

    def standing_at(self, level_dn: float, white_dn_per_s: float) -> Measurement:
        """`lasting` for a bench of unknown light: wanted white light is told as `level_dn` above black.

        white_dn_per_s: what white gives in the middle of the frame of this bench, less what leaks.
        """
        rows, columns = self.response.shape
        middle = self.response[rows // 4 : rows - rows // 4, columns // 4 : columns - columns // 4]
        return self.lasting(level_dn / (white_dn_per_s * self.brightness * float(middle.mean())))

    def correct(self, frames: Tensor, exposure_s: float | Tensor) -> Tensor:
        """(N, 1, h, w) DN of the bench to DN of the nominal twin. exposure_s: one, or (N,), as the camera took it.

        Without parts the very frames come back.
        """
        if not self.parts:
            return frames
        return self._nominal(frames - self._dark(frames, exposure_s), exposure_s)

    def of_light(self, light: Tensor, exposure_s: float | Tensor) -> Tensor:
        """The same of frames (N, 1, h, w) from which all that is no wanted light was taken off, in DN above it.

        Such are frames minus those through the closed mask. They are told for the exposure of `lasting`.
        """
        if self.light_s is None:
            return self._nominal(light, exposure_s)
        return self._nominal(light * (self.light_s / _per_frame(exposure_s, light)), self.light_s)

    def _nominal(self, light: Tensor, exposure_s: float | Tensor) -> Tensor:
        """(N, 1, h, w) light in DN of the bench to DN of the nominal twin, on its black."""
        import torch.nn.functional as F

        light = light * self.response.to(light)
        if self.places is not None:
            places = self.places.to(light).expand(len(light), -1, -1, -1)
            light = self.brightness * F.grid_sample(
                light, places, mode="bicubic", padding_mode="border", align_corners=False
            )
        light = light * self.even.to(light)
        return light + self.black_dn.to(light) + self.black_rate_dn_per_s.to(light) * _per_frame(exposure_s, light)

    def _dark(self, frames: Tensor, exposure_s: float | Tensor) -> Tensor:
        return self.dark_dn.to(frames) + self.dark_rate_dn_per_s.to(frames) * _per_frame(exposure_s, frames)


def _map(calibration: Calibration, name: str, frame_shape: tuple[int, int]) -> Tensor:
    import torch

    values = calibration.arrays[name]
    if values.shape != tuple(frame_shape):
        there, wanted = ("x".join(map(str, shape)) for shape in (values.shape, frame_shape))
        raise BadInput(
            f"the calibration `{calibration.kind}` is of frames of {there} pixels, frames are {wanted}; calibrate with "
            "the scene_px and mask_cells of this protocol"
        )
    return torch.from_numpy(np.array(values, dtype=np.float32))


def _places(shift_px: Array, rotation_rad: float, scale: float, frame_shape: tuple[int, int]) -> Array:
    """(h, w, 2) T u as x, y of `grid_sample`. Rows and columns turn as `sim.optics.shadow.Registration` says."""
    height, width = frame_shape
    y, x = (np.arange(side) + 0.5 - side / 2 for side in frame_shape)
    rows, columns = y[:, None], x[None, :]
    cos, sin = scale * np.cos(rotation_rad), scale * np.sin(rotation_rad)
    there_y, there_x = shift_px[0] + cos * rows - sin * columns, shift_px[1] + sin * rows + cos * columns
    return np.stack([2 * there_x / width, 2 * there_y / height], axis=-1).astype(np.float32)


def _per_frame(exposure_s: float | Tensor, like: Tensor) -> Tensor:
    import torch

    return torch.as_tensor(exposure_s, dtype=like.dtype, device=like.device).reshape(-1, 1, 1, 1)
