"""How far frames made with some errors are from the captured ones, and how well they are recognised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from protocols.metrics import Interval, accuracy_interval, paired_difference_interval

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Account:
    """Frames of one twin against captured frames of the same n scenes.

    mean_square: (n,) DN², of noise-free predicted minus captured, over the pixels of each frame; the noise of the
    captured frames is in it. shape_rms_dn: what is left of the RMS difference after one gain and one offset for all.
    correct: (n,) whether frames with noise were recognised.
    """

    mean_square: FloatArray
    shape_rms_dn: float
    correct: npt.NDArray[np.bool_]

    @property
    def rms_dn(self) -> float:
        """RMS difference over all frames and pixels, in DN."""
        return float(np.sqrt(self.mean_square.mean()))

    @property
    def accuracy(self) -> float:
        """Share of frames that were recognised."""
        return float(self.correct.mean())


def account_of(predicted: npt.NDArray[Any], captured: npt.NDArray[Any], correct: npt.NDArray[np.bool_]) -> Account:
    """predicted: noise-free (n, 1, h, w) DN; captured: the same scenes (n, 1, h, w) DN; correct: (n,)."""
    a, b = (np.asarray(frames, dtype=np.float64).reshape(len(frames), -1) for frames in (predicted, captured))
    spread = a.std() * b.std()
    alike = float(((a - a.mean()) * (b - b.mean())).mean() / spread) if spread > 0 else 0.0
    return Account(
        mean_square=np.square(a - b).mean(axis=1),
        shape_rms_dn=float(b.std() * np.sqrt(max(0.0, 1 - alike**2))),
        correct=np.asarray(correct, dtype=np.bool_),
    )


def explained(square: float, nominal: float, fitted: float) -> float | None:
    """Share of the mean square difference between nominal and fitted twin that is gone at `square`, all in DN².

    0 is as bad as the nominal twin, 1 as good as the fitted one; negative is worse than the nominal one. Noise, which
    is in all of them alike, drops out. None where the fitted twin is no better than the nominal one.
    """
    return (nominal - square) / (nominal - fitted) if fitted < nominal else None


def shares(account: Account, nominal: Account, fitted: Account) -> dict[str, float | None]:
    """`explained` by an account: of all that differs, and of what one gain and one offset cannot take away."""
    return {
        "explained": explained(account.rms_dn**2, nominal.rms_dn**2, fitted.rms_dn**2),
        "explained_shape": explained(account.shape_rms_dn**2, nominal.shape_rms_dn**2, fitted.shape_rms_dn**2),
    }


def lost(account: Account, nominal: Account, fitted: Account) -> dict[str, float | None]:
    """Shares that the fitted twin explains and `account` does not."""
    kept = shares(account, nominal, fitted)
    return {name: None if share is None else 1 - share for name, share in kept.items()}


def told_account(account: Account, noise_rms_dn: float, against: Account) -> dict[str, Any]:
    """As JSON: DN, multiples of the noise, accuracy with its interval, and its change against another account.

    Intervals are 95 % bootstrap intervals over scenes: how it would be for other scenes of the kind, with this camera.
    """
    accuracy = accuracy_interval([account.correct])
    change = paired_difference_interval([account.correct], [against.correct])
    return {
        "rms_dn": account.rms_dn,
        "in_noise": account.rms_dn / noise_rms_dn,
        "shape_rms_dn": account.shape_rms_dn,
        "accuracy": accuracy.mean,
        "accuracy_low": accuracy.low,
        "accuracy_high": accuracy.high,
        "change": _as_list(change),
    }


def interactions(alone: Sequence[Mapping[str, Any]], whole_change: float) -> dict[str, Any]:
    """How far the parts are from adding up. alone: told accounts with `shares` of each term alone.

    Sums of shares are 1, and the sum of changes is the whole one, where errors neither help nor hinder one another.
    """
    return {
        **{f"{name}_sum": _sum([row[name] for row in alone]) for name in ("explained", "explained_shape")},
        "accuracy_sum": float(sum(row["change"][0] for row in alone)),
        "accuracy_whole": float(whole_change),
    }


def _sum(shares: Sequence[float | None]) -> float | None:
    known = [share for share in shares if share is not None]
    return float(sum(known)) if len(known) == len(shares) else None


def _as_list(interval: Interval) -> list[float]:
    return [interval.mean, interval.low, interval.high]
