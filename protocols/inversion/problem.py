"""What is believed of a camera: that a frame is a window of the convolution of scene and PSF."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from labctl.errors import BadInput

if TYPE_CHECKING:
    from torch import Tensor

    from sim.optics.convolution import Border
    from sim.twin import Twin

Pair = tuple[int, int]

LARGEST_MISPLACEMENT_PX = 0.5
"""How far tilt and a wrong gap may move light at the rim of the scene before a plain convolution is refused."""


@dataclass(frozen=True, eq=False)
class LinearCamera:
    """Frames (N, C, *frame_shape) of scenes (N, C, *scene_shape): the window of the full convolution from `start` on.

    psf: (1 or C, h, w) of all frames alike, or (N, 1 or C, h, w) with one for each; kept as (1 or N, 1 or C, h, w). In
    light per scene value: a frame of a scene of radiance 0..1 is in open sensor pixels, see `frames_as_light`.
    fall_off: (H, W) light that reaches the sensor from each place of the scene, relative to the middle; None: 1.
    Raises BadInput where the window leaves the convolution, or shapes do not belong together.
    """

    psf: Tensor
    start: Pair
    frame_shape: Pair
    scene_shape: Pair
    fall_off: Tensor | None = None

    def __post_init__(self) -> None:
        psf = self.psf
        if psf.ndim not in (3, 4) or psf.numel() == 0:
            raise BadInput(f"a PSF of shape {tuple(psf.shape)}; (1 or C, h, w) or (N, 1 or C, h, w) is needed")
        object.__setattr__(self, "psf", psf if psf.ndim == 4 else psf.unsqueeze(0))
        for axis in (0, 1):
            whole = psf.shape[axis - 2] + self.scene_shape[axis] - 1
            if self.start[axis] < 0 or self.start[axis] + self.frame_shape[axis] > whole:
                raise BadInput(
                    f"a frame of {self.frame_shape[axis]} pixels from {self.start[axis]} on leaves the convolution of "
                    f"a PSF of {psf.shape[axis - 2]} and a scene of {self.scene_shape[axis]}, which spans {whole}; "
                    "give the PSF of this grid"
                )
        if self.fall_off is not None and tuple(self.fall_off.shape) != tuple(self.scene_shape):
            raise BadInput(
                f"a fall-off on a grid of {_by(self.fall_off.shape)} for scenes of {_by(self.scene_shape)}; give it on "
                "the grid of the scene"
            )

    @classmethod
    def of_border(cls, psf: Tensor, scene_shape: Pair, border: Border = "valid") -> LinearCamera:
        """Of a PSF without room round it, for the part of the image that `sim.optics.convolution.convolve` gives."""
        (rows, columns), (height, width) = scene_shape, _size(psf)
        if border == "full":
            return cls(psf, (0, 0), (rows + height - 1, columns + width - 1), scene_shape)
        if border == "same":
            return cls(psf, ((height - 1) // 2, (width - 1) // 2), scene_shape, scene_shape)
        if height > rows or width > columns:
            raise BadInput(
                f"a PSF of {height}x{width} pixels, the scene has {rows}x{columns}: no pixel sees all of the mask; use "
                "border same or full, or the PSF of this grid"
            )
        return cls(psf, (height - 1, width - 1), (rows - height + 1, columns - width + 1), scene_shape)

    @classmethod
    def of_twin(
        cls,
        twin: Twin,
        mask: Tensor,
        scene_shape: Pair,
        *,
        border: Border | None = None,
        roi: Pair | None = None,
    ) -> LinearCamera:
        """The camera that `twin` is behind `mask` (H, W) or (N, H, W), for scenes of radiance 0..1.

        border, roi: see `Twin.irradiance`. Stray light is part of the PSF, which then spans every place that a scene
        pixel can reach: spread evenly, it is what a constant PSF would give, exactly.
        Raises BadInput for a Bayer sensor, scene pixels that are no sensor pixels, and tilts or errors of the gap that
        move light by more than LARGEST_MISPLACEMENT_PX: that is no convolution; estimate the PSF from frames instead.
        """
        import torch

        from sim.optics.field import cos4_fall_off

        settings = twin.settings
        _check_linear(twin, scene_shape)
        with torch.no_grad():
            psf = twin.psf(mask).unsqueeze(-3)
            start, size = twin._window(scene_shape, _size(psf), border, roi)
            stray = float(twin.stray)
            fall_off = None
            if settings.optics.fall_off == "cos4":
                pitch_m, gap_m = settings.sensor.pitch_m, settings.optics.gap_m
                fall_off = cos4_fall_off(scene_shape, pitch_m=pitch_m, distance_m=gap_m).to(psf)
            if stray:
                psf, start = _with_veil(psf, start, size, scene_shape, stray)
        return cls(psf, start, size, scene_shape, fall_off)

    def forward(self, scene: Tensor) -> Tensor:
        """Frames (N, C, h, w) of scenes (N, C, H, W)."""
        from sim.optics.convolution import convolve_window

        self._check("scenes", scene, self.scene_shape)
        light = scene if self.fall_off is None else scene * self.fall_off
        return convolve_window(light, self.psf, self.start, self.frame_shape)

    def adjoint(self, frames: Tensor) -> Tensor:
        """The transpose of `forward`: scenes (N, C, H, W) of frames (N, C, h, w)."""
        from sim.optics.convolution import convolve_window

        self.check(frames)
        (height, width), (row, column) = _size(self.psf), self.start
        mirrored = (height - 1 - row, width - 1 - column)
        light = convolve_window(frames, self.psf.flip(-2, -1), mirrored, self.scene_shape)
        return light if self.fall_off is None else light * self.fall_off

    def check(self, frames: Tensor) -> None:
        """Raises BadInput when frames are not of this camera."""
        self._check("frames", frames, self.frame_shape)

    def with_psf(self, psf: Tensor) -> LinearCamera:
        """The same camera, believed to have another PSF (1 or C, h, w) or (N, 1 or C, h, w), such as a measured one.

        Raises BadInput for a PSF of another grid.
        """
        if _size(psf) != _size(self.psf):
            raise BadInput(
                f"a PSF on a grid of {_by(_size(psf))} pixels for a camera whose PSF has {_by(_size(self.psf))} "
                f"(scenes {_by(self.scene_shape)}, frames {_by(self.frame_shape)}); give the PSF of this grid"
            )
        return replace(self, psf=psf)

    def some(self, frames: Any) -> LinearCamera:
        """The camera of some frames of a batch, by index or slice; itself where all frames have one PSF."""
        return self if len(self.psf) == 1 else replace(self, psf=self.psf[frames])

    def to(self, like: Tensor) -> LinearCamera:
        """On the device and in the precision of `like`."""
        fall_off = None if self.fall_off is None else self.fall_off.to(like)
        return replace(self, psf=self.psf.to(like), fall_off=fall_off)

    def radiance(self, light: Tensor) -> Tensor:
        """Scenes (N, C, H, W) of the light that reaches the sensor from them."""
        return light if self.fall_off is None else light / self.fall_off.clamp(min=1e-3)

    def _check(self, name: str, images: Tensor, shape: Pair) -> None:
        if images.ndim != 4 or _size(images) != tuple(shape):
            raise BadInput(
                f"{name} of shape {tuple(images.shape)} for a camera with {name} of (N, C, {shape[0]}, {shape[1]}); "
                "give what belongs to this camera"
            )
        for axis, what in ((0, "frames"), (1, "channels")):
            if self.psf.shape[axis] not in (1, images.shape[axis]):
                raise BadInput(
                    f"{images.shape[axis]} {what} meet a PSF of {self.psf.shape[axis]}; one for all or one each is "
                    "needed"
                )


def frames_as_light(frames: Tensor, twin: Twin, *, exposure_s: float | Tensor, gain_db: float = 0.0) -> Tensor:
    """Light (N, 1, h, w) as `LinearCamera.of_twin` gives it, from frames in DN of the sensor of `twin`.

    Black level, dark current, gain, exposure and the response of each pixel taken back. exposure_s: one, or (N,). What
    the sensor clipped stays clipped. Frames of a bench must be corrected to the twin first, see `Measurement`.
    """
    import torch

    sensor, settings = twin.sensor, twin.settings.sensor
    if settings.colour != "none":
        raise BadInput(f"frames of a {settings.colour} sensor are mosaics; separate their colours first")
    region = _size(frames)
    time_s = torch.as_tensor(exposure_s, dtype=frames.dtype, device=frames.device).reshape(-1, 1, 1, 1)
    with torch.no_grad():
        photons = torch.zeros(len(time_s), 1, *region, dtype=twin.dtype, device=frames.device)
        dark = sensor.expose(photons, exposure_s=time_s.flatten(), gain_db=gain_db, quantise=False)
        gain = sensor.gain_dn_per_e * 10 ** (gain_db / 20)
        per_light = twin.photons_per_s * time_s * settings.quantum_efficiency * sensor.flat(region) * gain
        return (frames - dark) / per_light


def _with_veil(psf: Tensor, start: Pair, size: Pair, scene: Pair, stray: float) -> tuple[Tensor, Pair]:
    """PSF and start where every sensor pixel gets the share `stray` of the mean of all light as well."""
    import torch.nn.functional as F

    pads, first = [], []
    for axis in (0, 1):
        low = max(0, scene[axis] - 1 - start[axis])
        high = max(0, start[axis] + size[axis] - psf.shape[axis - 2])
        pads.append((low, high))
        first.append(start[axis] + low)
    veil = stray * psf.sum(dim=(-2, -1), keepdim=True) / (scene[0] * scene[1])
    return F.pad(psf, (*pads[1], *pads[0])) + veil, (first[0], first[1])


def _check_linear(twin: Twin, scene_shape: Pair) -> None:
    settings = twin.settings
    if settings.sensor.colour != "none":
        raise BadInput(f"a {settings.sensor.colour} sensor gives mosaics, which are no convolution; use a grey sensor")
    if abs(settings.scene_px - 1) >= 1e-6:
        raise BadInput(
            f"a scene pixel spans {settings.scene_px:.4g} sensor pixels; inversion needs scenes on the sensor grid: "
            "set optics.scene_pitch_m so that it spans 1"
        )
    share = abs(float(twin.gap_error)) + float(twin.tilt_rad.abs().max()) * (
        max(settings.sensor.shape) * settings.sensor.pitch_m / settings.optics.gap_m
    )
    moved_px = share * max(scene_shape) / 2
    if moved_px > LARGEST_MISPLACEMENT_PX:
        raise BadInput(
            f"tilt and error of the gap move light by up to {moved_px:.2g} sensor pixels, {LARGEST_MISPLACEMENT_PX} is "
            "the limit of a plain convolution; estimate the PSF from frames of known scenes (protocols.twin_fit)"
        )


def _size(images: Tensor) -> Pair:
    return images.shape[-2], images.shape[-1]


def _by(shape: Any) -> str:
    return f"{shape[0]}x{shape[1]}"
