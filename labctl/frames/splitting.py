"""Splitting a captured set anew: which samples train, choose and judge, by a rule that anyone can redo."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge
from pydantic import Field

from labctl.durable import write_whole
from labctl.errors import BadInput
from labctl.frames.layout import SPLITS
from labctl.frames.store import FrameStore
from labctl.frozen import Frozen

By = Literal["sample", "label", "identity"]
"""`sample`: every label in every part, all frames of a sample in one; `label`, or `identity` where labels are people:
whole labels in one part, so that those who judge were never seen in training."""

Fractions = tuple[float, float, float]
PARTS = ("train", "val", "test")


class Splitting(Frozen):
    """How a set was split, and what came of it: a file `splits/NAME.json`."""

    by: By
    fractions: Fractions
    seed: int
    split_of_sample: Annotated[dict[int, Annotated[int, Ge(0)]], Field(repr=False)]
    """0 train, 1 val, 2 test."""

    made: str = ""
    """ISO 8601, local time with zone."""


def split_set(store: FrameStore, *, by: By, fractions: Fractions, seed: int) -> Splitting:
    """Split the scenes of a set by `fractions` (train, val, test; they sum to 1).

    Samples (or labels) are ranked by a hash of the seed and of the hash of their scene (or their name), so that the
    split depends on neither the order of the frames nor the version of a random generator. Every part with a fraction
    above 0 gets at least one sample of every label (or one label); BadInput when there are too few.
    """
    _check_fractions(fractions)
    samples = _samples(store)
    if by == "sample":
        groups: dict[str, list[int]] = {}
        for sample, (label, _) in samples.items():
            groups.setdefault(label, []).append(sample)
        for label, members in groups.items():
            _require(len(members), fractions, f"label '{label}' has", "samples", "capture more, use --by label")
        of_sample: dict[int, int] = {}
        for members in groups.values():
            ranked = sorted(members, key=lambda sample: (rank(seed, samples[sample][1]), sample))
            of_sample.update(zip(ranked, _parts(len(ranked), fractions), strict=True))
    else:
        labels = sorted({label for label, _ in samples.values()}, key=lambda label: (rank(seed, label), label))
        if labels == [""]:
            raise BadInput(f"{store.where}: its frames have no labels; use --by sample")
        _require(len(labels), fractions, f"{store.where} has", "labels", "use --by sample")
        of_label = dict(zip(labels, _parts(len(labels), fractions), strict=True))
        of_sample = {sample: of_label[label] for sample, (label, _) in samples.items()}
    return Splitting(by=by, fractions=fractions, seed=seed, split_of_sample=dict(sorted(of_sample.items())))


def write_split(folder: Path, name: str, splitting: Splitting, *, replace: bool = False) -> Path:
    """Keep a split with its set as `splits/NAME.json`, whole or not at all. Raises BadInput when the name is taken."""
    if not re.fullmatch(r"\w[\w.-]{0,99}", name):
        raise BadInput(f"'{name}' cannot name a split; use up to 100 letters, digits, dots, dashes and underscores")
    path = folder / SPLITS / f"{name}.json"
    if path.exists() and not replace:
        raise BadInput(f"{folder} has a split '{name}' already; choose another name, or give --replace")
    path.parent.mkdir(exist_ok=True)
    made = splitting.model_copy(update={"made": time.strftime("%Y-%m-%dT%H:%M:%S%z")})
    write_whole(path, json.dumps(made.model_dump(mode="json"), indent=1) + "\n")
    return path


def count_split(store: FrameStore, splitting: Splitting) -> dict[str, dict[str, int]]:
    """By part: how many frames, samples and labels it has."""
    samples, labels = store.column("sample_id"), store.column("label")
    counts = {}
    scenes = store.select(marked=None)
    for part, name in enumerate(PARTS):
        own = [place for place in scenes if splitting.split_of_sample.get(int(samples[place])) == part]
        found = {int(labels[place]) for place in own} - {-1}
        counts[name] = {"frames": len(own), "samples": len(set(samples[own].tolist())), "labels": len(found)}
    return counts


def part_sizes(n: int, fractions: Fractions) -> list[int]:
    """Largest-remainder sizes of train, val, test that sum to n; none that has a fraction is empty if n allows it."""
    ideal = [n * fraction for fraction in fractions]
    # A rounded product such as 0.6 * 5 = 2.9999999999999996 must not lose a sample to another part.
    sizes = [int(share + 1e-9) for share in ideal]
    by_remainder = sorted(range(3), key=lambda i: (sizes[i] - ideal[i], i))
    for index in by_remainder[: n - sum(sizes)]:
        sizes[index] += 1
    for index in range(3):
        if fractions[index] > 0 and sizes[index] == 0:
            sizes[sizes.index(max(sizes))] -= 1
            sizes[index] = 1
    return sizes


def rank(seed: int, name: str) -> str:
    """Where a sample stands in the order by which parts are cut: sha256 of seed and name."""
    return hashlib.sha256(f"{seed}/{name}".encode(errors="surrogateescape")).hexdigest()


def _samples(store: FrameStore) -> Mapping[int, tuple[str, str]]:
    """Label and lasting name of every sample that has a scene frame."""
    columns = [store.column(name) for name in ("sample_id", "label_name", "label", "scene_hash")]
    found: dict[int, tuple[str, str]] = {}
    for place in store.select(marked=None):
        sample, name, label, scene = (column[place] for column in columns)
        if int(sample) >= 0:
            said = str(name) or ("" if int(label) < 0 else str(int(label)))
            found.setdefault(int(sample), (said, str(scene) or str(int(sample))))
    if not found:
        raise BadInput(f"{store.where} has no frames with a sample id; nothing can be split")
    return found


def _parts(n: int, fractions: Fractions) -> list[int]:
    return [part for part, size in enumerate(part_sizes(n, fractions)) for _ in range(size)]


def _check_fractions(fractions: Sequence[float]) -> None:
    if any(not 0 <= fraction <= 1 for fraction in fractions) or abs(sum(fractions) - 1) > 1e-6:
        raise BadInput(f"--fractions {' '.join(f'{f:g}' for f in fractions)}: train, val and test must sum to 1")


def _require(n: int, fractions: Fractions, whose: str, what: str, todo: str) -> None:
    wanted = sum(fraction > 0 for fraction in fractions)
    if n < wanted:
        one = what.removesuffix("s") if n == 1 else what
        raise BadInput(f"{whose} {n} {one} for {wanted} parts; {todo}, or give a part the fraction 0")
