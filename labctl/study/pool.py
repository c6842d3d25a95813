"""The captured frames that a study can ask for: those of one set, or of several designs at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from labctl.errors import BadInput, RunFailed
from labctl.frames.finding import sets_below
from labctl.frames.samples import Choice, Samples, Treatment
from labctl.frames.scenes import Scenes
from labctl.frames.store import FrameStore
from labctl.study.order import Asked
from labctl.study.settings import Subtract


@dataclass(frozen=True)
class Frame:
    """One frame that can be asked for; of a ladder, its rungs merged."""

    group: int
    """Which of the sets it is from."""

    row: int
    sample_id: int
    label: str
    design: str

    scene: str
    """Names the picture that was captured, by its hash where the set knows it."""

    @property
    def asked(self) -> Asked:
        """What the order depends on."""
        return Asked(self.group, self.scene, self.label)


class AskedSet:
    """One captured set. Its frames are read and proved when they are shown.

    Raises BadInput for a set that is not whole, or that has no labelled frames of scenes in `split`.
    """

    def __init__(self, store: FrameStore, name: str, split: str | None, subtract: Subtract) -> None:
        self.store, self.name = store, name
        try:
            store.check_whole()
        except RunFailed as error:
            raise BadInput(str(error)) from error
        treatment = Treatment(**({} if subtract == "nothing" else {subtract: True}))
        samples = Samples(store, Choice(split=split), treatment)
        if len(samples) == 0:
            have = "it holds no frames of scenes" if split is None else f"it holds no frames of the split '{split}'"
            other = "capture some" if split is None else "give --split all, or another split"
            raise BadInput(f"{store.where}: {have}, so there is nothing to ask; {other}")
        unnamed = int((samples.label_names == "").sum())
        if unnamed == len(samples):
            raise BadInput(
                f"{store.where}: none of its {len(samples)} frames has a label, so no answer could be right or wrong; "
                "capture samples of a data source, or live scenes with `labels`"
            )
        self._samples = samples
        self.unnamed = unnamed

    @property
    def set_id(self) -> str:
        """What the set is known by wherever it lies."""
        return self.store.header.set_id

    def frames(self, group: int) -> list[Frame]:
        """Those with a label, of each scene the first."""
        store, samples = self.store, self._samples
        hashes, designs = _hashes(store), self._designs()
        found: dict[int, Frame] = {}
        for row, (sample, label) in enumerate(zip(samples.sample_ids.tolist(), samples.label_names, strict=True)):
            if label and sample >= 0 and sample not in found:
                scene = hashes.get(sample) or f"{store.header.data_id or store.header.set_id}:{sample}"
                found[sample] = Frame(group, row, sample, str(label), designs.get(sample, self.name), scene)
        return list(found.values())

    def pixels(self, row: int) -> npt.NDArray[Any]:
        """(C, h, w) in DN. Raises RunFailed when the frame is damaged or gone."""
        frames = np.empty((1, *self._samples.frame_shape), dtype=np.float32)
        self._samples.fill(frames, [row])
        pixels: npt.NDArray[Any] = frames[0]
        return pixels

    def _designs(self) -> dict[int, str]:
        """Of every sample: a merged set may hold several."""
        store = self.store
        kept = store.select()
        samples, designs = store.column("sample_id")[kept], store.column("design")[kept]
        whole = store.header.design or self.name
        return {int(sample): str(one) or whole for sample, one in zip(samples, designs, strict=True)}

    @cached_property
    def scenes(self) -> Scenes | None:
        """The ground truth, where it was kept."""
        return Scenes.open(self.store.where, **self.store.source.options)

    @cached_property
    def label_of_sample(self) -> dict[int, str]:
        """Of all samples of the set, whatever their split."""
        kept = self.store.select(marked=None)
        samples, labels = self.store.column("sample_id")[kept], self.store.column("label_name")[kept]
        return {int(sample): str(label) for sample, label in zip(samples, labels, strict=True) if label}

    @cached_property
    def scene_of_sample(self) -> dict[int, str]:
        """Hash of the picture that was captured, of all samples that have one."""
        return _hashes(self.store)


def open_sets(wheres: Sequence[str], split: str | None, subtract: Subtract = "nothing") -> list[AskedSet]:
    """The sets at `wheres`: each a set, a run or a step (then all sets in it), or an address. split: None takes all.

    Raises BadInput when one is missing, given twice, not whole, without labels or without what shall be subtracted.
    """
    found: list[str] = []
    for where in wheres:
        found += [where] if "://" in where else _below(where)
    names = _names(found)
    sets = [AskedSet(FrameStore.open(where), name, split, subtract) for where, name in zip(found, names, strict=True)]
    seen: dict[str, AskedSet] = {}
    for one in sets:
        if one.set_id in seen:
            twice = f"{seen[one.set_id].store.where} and {one.store.where}"
            raise BadInput(f"{twice} are the same set ({one.set_id[:16]}); give it once")
        seen[one.set_id] = one
    return sets


def _below(where: str) -> list[str]:
    folder = Path(where).expanduser()
    if not folder.exists():
        raise BadInput(f"there is no '{where}'; give the folder of a captured set, or of a run that made some")
    found = [str(path) for path in sorted(sets_below(folder))]
    if not found:
        raise BadInput(f"{where} is no captured set, and holds none; give the folder of one, or of a run that made one")
    return found


def _names(found: Sequence[str]) -> list[str]:
    """Short and different names of the sets: what of their paths is not common to all."""
    parts = [[part for part in where.split("/") if part] for where in found]
    if len(parts) == 1:
        own = parts[0][:-1] if parts[0][-1] == "frames" and len(parts[0]) > 1 else parts[0]
        return ["/".join(own[-2:])]
    start = _common(parts)
    end = _common([path[start:][::-1] for path in parts])
    names = ["/".join(path[start : len(path) - end]) for path in parts]
    return names if len(set(names)) == len(names) and all(names) else list(found)


def _common(parts: Sequence[Sequence[str]]) -> int:
    """How many of their first entries are the same in all."""
    alike = (len(set(column)) == 1 for column in zip(*parts, strict=False))
    return sum(1 for _ in takewhile(bool, alike))


def _hashes(store: FrameStore) -> dict[int, str]:
    kept = store.select(marked=None)
    samples, hashes = store.column("sample_id")[kept], store.column("scene_hash")[kept]
    return {int(sample): str(one) for sample, one in zip(samples, hashes, strict=True) if one}
