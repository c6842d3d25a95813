"""Numbers that judge a camera: accuracy with its interval, chance level, blur, open area, light."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from labctl.blurriness import BLUR_FILTER_PX, image_blurriness
from labctl.errors import BadInput


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and the interval around it."""

    mean: float
    low: float
    high: float


def accuracy_interval(
    correct_by_seed: Sequence[npt.ArrayLike],
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    groups: Sequence[npt.ArrayLike] | None = None,
) -> Interval:
    """Mean accuracy over seeds and its bootstrap percentile interval.

    correct_by_seed: for each training seed an array (n_items,) of bool, True where the answer was right; seeds count
    equally. Seeds with equally many items have judged the same items in the same order, as all runs of one split do:
    a replicate resamples the items once for all of them, since models fail together on a hard item. Seeds with
    different numbers of items are resampled each on its own. Same input, same interval.
    groups: for each seed (n_items,) the source of each item, where several come from one, as flipped copies of one
    picture do: a replicate then resamples sources with all their items.
    The interval says how well these trained models would do on other items of the same kind. It leaves out the spread
    that other training seeds would bring. It has no width when everything, or nothing, is right.
    Raises BadInput for empty or non-boolean arrays, level outside 0..1, or fewer than 100 resamples.
    """
    correct = [_correct(values, f"correct_by_seed[{i}]") for i, values in enumerate(correct_by_seed)]
    items = [values.astype(np.int8) for values in correct]
    return _bootstrap(items, level=level, resamples=resamples, seed=seed, groups=groups)


def paired_difference_interval(
    a_by_seed: Sequence[npt.ArrayLike],
    b_by_seed: Sequence[npt.ArrayLike],
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    groups: Sequence[npt.ArrayLike] | None = None,
) -> Interval:
    """Mean accuracy of a minus that of b, both asked the same items, and its bootstrap percentile interval.

    a_by_seed, b_by_seed: as in `accuracy_interval`; item k of a_by_seed[s] is item k of b_by_seed[s]. A replicate
    resamples both together, so what makes an item hard for both cancels. `accuracy_interval` says what is left out.
    Raises BadInput when the two do not have the same seeds and items.
    """
    if len(a_by_seed) != len(b_by_seed):
        raise BadInput(f"a has {len(a_by_seed)} seeds and b has {len(b_by_seed)}; pairs need the same seeds in both")
    differences = []
    for index, (a_values, b_values) in enumerate(zip(a_by_seed, b_by_seed, strict=True)):
        a, b = _correct(a_values, f"a_by_seed[{index}]"), _correct(b_values, f"b_by_seed[{index}]")
        if a.shape != b.shape:
            raise BadInput(f"seed {index}: a has {a.size} items and b has {b.size}; pairs need the same items in both")
        differences.append(a.astype(np.int8) - b.astype(np.int8))
    return _bootstrap(differences, level=level, resamples=resamples, seed=seed, groups=groups)


def mean_interval(
    values_by_seed: Sequence[npt.ArrayLike],
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    groups: Sequence[npt.ArrayLike] | None = None,
) -> Interval:
    """Mean of any finite values, such as a similarity or a difference of two, and its bootstrap percentile interval.

    values_by_seed, groups: as in `accuracy_interval`. Raises BadInput for empty arrays and values that are not finite.
    """
    values = [np.asarray(items, dtype=np.float64) for items in values_by_seed]
    for index, items in enumerate(values):
        if items.ndim != 1 or items.size == 0 or not np.isfinite(items).all():
            raise BadInput(
                f"values_by_seed[{index}] has shape {items.shape}; (n_items,) with at least one item, all finite, is "
                "needed"
            )
    return _bootstrap(values, level=level, resamples=resamples, seed=seed, groups=groups)


def majority_baseline(train_labels: npt.ArrayLike, test_labels: npt.ArrayLike) -> float:
    """Accuracy on the test labels of always naming the most frequent training class; of equals, the lowest number."""
    train, test = np.asarray(train_labels), np.asarray(test_labels)
    for name, labels in (("train_labels", train), ("test_labels", test)):
        if labels.ndim != 1 or labels.size == 0:
            raise BadInput(f"{name} has shape {labels.shape}; (N,) with N of at least 1 is needed")
    values, counts = np.unique(train, return_counts=True)
    return float((test == values[np.argmax(counts)]).mean())


def blurriness(frames: npt.ArrayLike, *, limit: int = 40) -> float:
    """Mean no-reference blur of the first `limit` frames: 0 sharp, 1 nothing but blur. [Crete et al. 2007]

    frames: (N, h, w) in any linear unit; the scale does not matter. Noise looks sharp and lowers the value: say whether
    frames were noise-free. A frame without any structure counts as 1.
    Raises BadInput for frames smaller than the filter (11 px) in either direction, where the measure means nothing.
    """
    stack = np.asarray(frames)
    if stack.ndim != 3 or stack.shape[0] == 0:
        raise BadInput(f"frames have shape {stack.shape}; (N, h, w) with N of at least 1 is needed")
    if min(stack.shape[1:]) < BLUR_FILTER_PX:
        raise BadInput(
            f"frames of {stack.shape[1]}x{stack.shape[2]} px are too small to judge blur; "
            f"at least {BLUR_FILTER_PX} px each way are needed; use a larger frame"
        )
    if limit < 1:
        raise BadInput(f"limit is {limit}; at least 1 frame is needed")
    seen = stack[:limit].astype(np.float64)
    if not np.isfinite(seen).all():
        raise BadInput("frames hold NaN or infinite values; only finite values have a blur; check the capture")
    return float(np.mean([image_blurriness(frame) for frame in seen]))


def aperture_ratio(mask: npt.ArrayLike) -> float:
    """Open fraction of a mask: the mean transmittance of (H, W) values in 0..1."""
    return float(_transmittance(mask).mean())


def light_throughput(response: npt.ArrayLike, open_response: npt.ArrayLike | None = None) -> float:
    """Light that a mask lets through, relative to the fully open mask.

    response: (h, w) transmittance of the mask, its point spread function, or its white frame less dark.
    open_response: the same quantity of the fully open mask on the same grid; all ones when not given, which is right
    for transmittance only: a point spread function has its own scale and border.
    Raises BadInput when shapes differ or the open mask gives no light.
    """
    if open_response is None:
        return aperture_ratio(response)
    through, fully_open = np.asarray(response, dtype=np.float64), np.asarray(open_response, dtype=np.float64)
    if through.shape != fully_open.shape or through.ndim != 2:
        raise BadInput(
            f"response has shape {through.shape} and open_response {fully_open.shape}; both need the same (h, w)"
        )
    whole, part = float(fully_open.sum()), float(through.sum())
    if not (np.isfinite(part) and np.isfinite(whole) and whole > 0):
        raise BadInput(
            f"response sums to {part:.3g} and open_response to {whole:.3g}; finite sums are needed and the open mask "
            "must give light; check the dark subtraction"
        )
    return part / whole


def _bootstrap(
    items_by_seed: Sequence[npt.NDArray[Any]],
    *,
    level: float,
    resamples: int,
    seed: int,
    groups: Sequence[npt.ArrayLike] | None = None,
) -> Interval:
    """items_by_seed: (n_items,) values of each seed, of which items are resampled, or whole `groups`."""
    if not items_by_seed:
        raise BadInput("no seeds were given; at least one array of answers is needed")
    if not 0 < level < 1:
        raise BadInput(f"level is {level}; a number between 0 and 1 is needed, such as 0.95")
    if resamples < 100:
        raise BadInput(f"resamples is {resamples}; at least 100 are needed for the ends of an interval")
    rng = np.random.default_rng(seed)
    if groups is None:
        replicates = _replicates_of_items(items_by_seed, resamples, rng)
    else:
        replicates = _replicates_of_groups(items_by_seed, [np.asarray(values) for values in groups], resamples, rng)
    low, high = np.quantile(replicates, [(1 - level) / 2, (1 + level) / 2])
    return Interval(mean=float(np.mean([items.mean() for items in items_by_seed])), low=float(low), high=float(high))


def _replicates_of_items(
    items_by_seed: Sequence[npt.NDArray[Any]], resamples: int, rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """(resamples,) means over seeds, items drawn with replacement; the same items for all seeds where equally many.

    Where values repeat, drawing n items with replacement *is* a multinomial draw of their counts: the exact
    bootstrap distribution without an array of (resamples, n_items).
    """
    same_items = len({items.size for items in items_by_seed}) == 1
    drawn_together = (
        [np.stack(items_by_seed).mean(axis=0)] if same_items else [items.astype(float) for items in items_by_seed]
    )
    replicates = np.zeros(resamples)
    for items in drawn_together:
        values, counts = np.unique(items, return_counts=True)
        drawn = rng.multinomial(items.size, counts / items.size, size=resamples)
        replicates += drawn @ values / items.size
    return replicates / len(drawn_together)


def _replicates_of_groups(
    items_by_seed: Sequence[npt.NDArray[Any]], groups: list[npt.NDArray[Any]], resamples: int, rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """(resamples,) means over seeds, whole groups drawn with replacement; the same groups for all seeds that have them.

    A seed whose groups are others than those of the first is drawn on its own.
    """
    shapes = [(items.shape, values.shape) for items, values in zip(items_by_seed, groups, strict=True)]
    if any(items != values for items, values in shapes):
        raise BadInput(f"items and groups have shapes {shapes}; every item needs a group")
    first = np.unique(groups[0])
    replicates = np.zeros(resamples)
    weights = rng.multinomial(len(first), np.full(len(first), 1 / len(first)), size=resamples)
    for items, values in zip(items_by_seed, groups, strict=True):
        known, place = np.unique(values, return_inverse=True)
        own = weights
        if not np.array_equal(known, first):
            own = rng.multinomial(len(known), np.full(len(known), 1 / len(known)), size=resamples)
        sums = np.bincount(place.reshape(-1), weights=items, minlength=len(known))
        counts = np.bincount(place.reshape(-1), minlength=len(known))
        replicates += (own @ sums) / (own @ counts)
    return replicates / len(items_by_seed)


def _correct(values: npt.ArrayLike, name: str) -> npt.NDArray[np.bool_]:
    array = np.asarray(values)
    if array.ndim != 1 or array.size == 0:
        raise BadInput(f"{name} has shape {array.shape}; (n_items,) with at least one item is needed")
    if array.dtype != np.bool_:
        raise BadInput(f"{name} has type {array.dtype}; bool is needed: True where the answer was right")
    return array


def _transmittance(mask: npt.ArrayLike) -> npt.NDArray[Any]:
    values = np.asarray(mask, dtype=np.float64)
    if values.ndim != 2 or values.size == 0:
        raise BadInput(f"mask has shape {values.shape}; (H, W) is needed")
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 1):
        raise BadInput(f"mask spans {low:.3g}..{high:.3g}; transmittance lies in 0..1; give intensity, not levels")
    return values
