"""A witness that knows what every block of a scene adds to a frame, and how far frames stray from that."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from labctl.durable import write_whole
from labctl.errors import BadInput
from labctl.exposure import FloatArray, Frames
from labctl.frames.record import WitnessScore
from labctl.frames.witness_blocks import Bins, BlockResponses, Dark, Noise, Values
from labctl.frames.witness_comparison import Comparison, compare

SCALES = (0.7, 1.4)
"""A frame that is darker or brighter than foretold by more than the lamp may drift is not right."""

LEAST_SHARE = 0.02
"""Of the previous scene, where it shows, that makes a frame torn. Less is a display that has all but settled."""

STALE_SHARE = 0.9
"""From here on a torn frame is called stale: little of its own scene is to be seen."""

MOST_SHARE = 1.2
"""Two scenes can overlap; more of the previous than this is another scene."""

EXPLAINED = 0.1
"""A mixture with the previous scene explains a frame when it leaves less than this share of the mismatch."""

LEAST_SEEN = 1e-6
"""Share of a feature that saturation leaves, below which the feature says nothing."""

SURE_SIGMAS = 3.0
"""Scenes count as told apart when their distance exceeds the threshold by so much."""


@dataclass(frozen=True)
class Features:
    """The q numbers of a frame that tell scenes apart.

    basis: (q, n) orthonormal rows over bins in units of `sigma_dn` (n,), the noise of a frame of middling brightness.
    blocks: (P, q) of every block at radiance 1. beside: variance of what frames hold beside these features, which comes
    in where bins are left out.
    """

    basis: Values
    sigma_dn: Values
    blocks: Values
    beside: float = 1.0

    @property
    def offset(self) -> Values:
        """(q,) of one DN more in every bin."""
        return np.asarray(self.basis @ (1 / self.sigma_dn))

    def of(self, light_dn: Values, inside: npt.NDArray[np.bool_]) -> tuple[Values, Values]:
        """(q,) of light (n,) by least squares over the bins `inside`, and the inverse (q, q) of what these bins see."""
        basis = self.basis[:, inside]
        inverse: Values = np.linalg.inv(basis @ basis.T + LEAST_SEEN * np.eye(len(basis))).astype(np.float64)
        return inverse @ (basis @ (light_dn / self.sigma_dn)[inside]), inverse


@dataclass(frozen=True)
class Thresholds:
    """What right frames exceed with a chance of `false_alarms`, by what calibration frames did."""

    mismatch: float
    sigmas: float
    false_alarms: float


@dataclass(frozen=True)
class BlockWitness:
    """See `labctl.frames.witness.Witness`. Made by `measure_witness` or from a computed model of the rig."""

    responses: BlockResponses
    dark: Dark
    noise: Noise
    bins: Bins
    features: Features

    model_error: Values
    """(q, q) covariance of what frames stray from their predictions beyond their noise."""

    thresholds: Thresholds

    told_apart: float
    """Share of pairs of calibration scenes of which a frame of one was not taken for the other."""

    def judge(self, frame: Frames, scene: FloatArray, previous: FloatArray | None) -> WitnessScore:
        """See `Witness.judge`."""
        grid, limits = self.responses.grid, self.thresholds
        own, before = self._grey(scene), self._grey(scene if previous is None else previous)
        means = grid.means(own[None])[0]
        found = self._compare(*self.observe(frame, means), means, grid.mixed_means(own, before))
        best = int(found.sigmas.argmax())
        share = float(found.shares[best] * found.parts[best])
        mixed = bool(found.sigmas[best] > limits.sigmas and found.shares[best] >= LEAST_SHARE)
        slack = limits.sigmas * found.scale_error
        word = "right"
        if found.mismatch > limits.mismatch or mixed or not _is_bright(found.scale, slack):
            left = found.mismatch - float(found.sigmas[best]) ** 2
            explained = left <= max(limits.mismatch, EXPLAINED * found.mismatch) and found.shares[best] <= MOST_SHARE
            word = "wrong"
            if mixed and explained and _is_bright(float(found.scales[best]), slack):
                word = "stale" if share >= STALE_SHARE else "torn"
        return WitnessScore(own=found.likeness, previous_share=share if mixed else float(found.shares[0]), word=word)

    def tells_apart(self, scene: FloatArray, previous: FloatArray) -> bool:
        """See `Witness.tells_apart`. At the reference exposure."""
        own, other = self.responses.grid.means(np.stack([self._grey(scene), self._grey(previous)]))
        variance = self.noise.variance(own @ self.responses.light_dn)
        noise = (self.features.basis * (variance / self.features.sigma_dn**2)) @ self.features.basis.T
        found = self._compare(own @ self.features.blocks, noise, own, other[None])
        return bool(found.reach[0] >= self.thresholds.sigmas + SURE_SIGMAS)

    def observe(self, frame: Frames, means: Values) -> tuple[Values, Values]:
        """Features (q,) of a single frame at the reference exposure, and the (q, q) covariance of their noise.

        means: (P,) of its scene; brighter light is noisier. Saturated bins are left out: what only they would tell gets
        a wide variance. A longer exposure is taken for as noisy as the reference, where thresholds were learned.
        """
        values, inside = (found[0] for found in self.bins.values(frame))
        ratio, gain = self.responses.ratio(frame)
        light = (values - self.dark.at(float(frame.exposure_s[0]))) / (ratio * gain)
        variance = self.noise.variance(means @ self.responses.light_dn, ratio=min(ratio, 1.0), gain=gain)
        seen, inverse = self.features.of(light, inside)
        basis = self.features.basis[:, inside] / self.features.sigma_dn[inside]
        noise = inverse @ ((basis * variance[inside]) @ basis.T) @ inverse
        return seen, noise + self.features.beside * (inverse - np.eye(len(inverse)))

    def save(self, path: Path) -> None:
        """Write everything to an npz file, whole or not at all."""
        buffer = io.BytesIO()
        np.savez(
            buffer,
            **self.responses.arrays(),
            bias_dn=self.dark.bias_dn,
            rate_dn_per_s=self.dark.rate_dn_per_s,
            noise=(self.noise.floor, self.noise.per_dn),
            frame_shape=self.bins.frame_shape,
            basis=self.features.basis,
            sigma_dn=self.features.sigma_dn,
            features=self.features.blocks,
            beside=self.features.beside,
            model_error=self.model_error,
            thresholds=(self.thresholds.mismatch, self.thresholds.sigmas, self.thresholds.false_alarms),
            told_apart=self.told_apart,
        )
        write_whole(path, buffer.getvalue())

    @classmethod
    def load(cls, path: Path) -> BlockWitness:
        """What `save` wrote. Raises BadInput when it cannot be read."""
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
                arrays: dict[str, Any] = dict(file)
            channels, rows, columns = (int(side) for side in arrays["frame_shape"])
            return cls(
                responses=BlockResponses.of(arrays),
                dark=Dark(arrays["bias_dn"], arrays["rate_dn_per_s"]),
                noise=Noise(*map(float, arrays["noise"])),
                bins=Bins((channels, rows, columns)),
                features=Features(arrays["basis"], arrays["sigma_dn"], arrays["features"], float(arrays["beside"])),
                model_error=arrays["model_error"],
                thresholds=Thresholds(*map(float, arrays["thresholds"])),
                told_apart=float(arrays["told_apart"]),
            )
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise BadInput(
                f"{path} holds no witness ({type(error).__name__}: {error}); remove it, then it is measured anew"
            ) from error

    def _grey(self, scene: FloatArray) -> Values:
        wanted = (1, *self.responses.grid.scene_shape)
        if scene.shape != wanted:
            raise BadInput(f"a scene has shape {scene.shape}, this witness knows scenes of {wanted}")
        return np.asarray(scene[0], dtype=np.float64)

    def _compare(self, seen: Values, noise: Values, own: Values, mixtures: Values) -> Comparison:
        blocks = self.features.blocks
        return compare(seen, own @ blocks, mixtures @ blocks, self.model_error + noise, self.features.offset)


def _is_bright(scale: float, slack: float) -> bool:
    """Whether a brightness lies in `SCALES` but for `slack`; one of which nothing is known does."""
    return not (scale + slack < SCALES[0] or scale - slack > SCALES[1])
