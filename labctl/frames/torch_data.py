"""Captured samples for PyTorch: a map-style data set, and a loader for training in several processes.

Imports torch: whatever must start fast imports this module inside a function.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from labctl.errors import BadInput
from labctl.frames.record import Kind
from labctl.frames.samples import Choice, IntArray, Rows, Samples, Treatment, class_names_of, label_numbers
from labctl.frames.scenes import Scenes
from labctl.frames.store import FrameStore

Item = dict[str, torch.Tensor]
"""`frame` (C, h, w) float32 in DN; `label` int64, place in the class names or -1; `sample_id` int64; and `scene`
(C, H, W) float32 radiance 0..1 where scenes are asked for. A batch has one more dimension in front of each."""


class FrameDataset(Dataset[Item]):
    """Samples as items, or many at a time: `data[3]` is one item, `data[[3, 1, 4]]` a batch read in one go.

    Pickled as an address and what belongs to every sample: each worker opens its files itself, when it first reads.
    Raises BadInput for labels that are none of `class_names`, and for samples whose scenes are not kept.
    """

    def __init__(
        self, source: Rows, rows: IntArray, *, class_names: Sequence[str], scenes: Scenes | None, where: str
    ) -> None:
        self.class_names = tuple(class_names)
        self.sample_ids: IntArray = source.sample_ids[rows]
        self.splits: IntArray = source.splits[rows]
        self.labels: IntArray = label_numbers(source.label_names[rows], self.class_names, where)
        self.frame_shape = source.frame_shape
        self._source, self._rows, self._scenes = source, np.asarray(rows, dtype=np.int64), scenes
        if scenes is not None:
            without = [sample_id for sample_id in self.sample_ids.tolist() if not scenes.has(sample_id)]
            if without:
                raise BadInput(
                    f"{where} keeps no scene of {len(without)} of {len(rows)} samples, such as {without[0]}; do "
                    "without scenes, or capture with `keep_scenes: true`"
                )

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, number: int | Sequence[int]) -> Item:
        """One item, or a batch. Raises RunFailed when a frame or scene is damaged or gone."""
        if isinstance(number, int | np.integer):
            if not -len(self) <= number < len(self):
                raise IndexError(f"sample {number} is asked for; there are {len(self)}")
            return {name: values[0] for name, values in self._batch([int(number)]).items()}
        return self._batch(number)

    def __getitems__(self, numbers: Sequence[int]) -> list[Item]:
        """The items that any `DataLoader` makes a batch of, read in one go."""
        batch = self._batch(numbers)
        return [{name: values[place] for name, values in batch.items()} for place in range(len(numbers))]

    def _batch(self, numbers: Sequence[int]) -> Item:
        picked = np.asarray(numbers, dtype=np.int64)
        frames = np.empty((len(picked), *self.frame_shape), dtype=np.float32)  # numpy asks for huge pages, torch not
        self._source.fill(frames, self._rows[picked])
        batch = {
            "frame": torch.from_numpy(frames),
            "label": torch.from_numpy(self.labels[picked]),
            "sample_id": torch.from_numpy(self.sample_ids[picked]),
        }
        if self._scenes is not None:
            batch["scene"] = torch.from_numpy(self._scenes.read(self.sample_ids[picked]))
        return batch


def frame_dataset(
    store: FrameStore,
    *,
    kind: Kind | None = "scene",
    split: int | str | None = None,
    splitting: str | None = None,
    label: str | None = None,
    marked: bool | None = False,
    dark: bool = False,
    background: bool = False,
    closed: bool = False,
    flat: str | Path | None = None,
    rungs: Literal["merge", "separate"] = "merge",
    average: bool = False,
    class_names: Sequence[str] | None = None,
    scenes: bool = False,
) -> FrameDataset:
    """Samples read from the shards of a set, also behind an address.

    kind, split, splitting, label, marked: as `FrameStore.select`. dark, background, closed, flat, rungs, average: see
    `labctl.frames.samples.Treatment`. class_names: numbers the labels; as in the header of the set unless given.
    scenes: the ground truth of every sample too. Raises BadInput when the set has not what is asked for.
    """
    choice = Choice(kind=kind, split=split, splitting=splitting, label=label, marked=marked)
    treatment = Treatment(
        dark=dark,
        background=background,
        closed=closed,
        flat=None if flat is None else str(flat),
        rungs=rungs,
        average=average,
    )
    samples = Samples(store, choice, treatment)
    classes = class_names_of(store, samples.label_names) if class_names is None else tuple(class_names)
    kept = kept_scenes(store.where, **store.source.options) if scenes else None
    return FrameDataset(samples, np.arange(len(samples)), class_names=classes, scenes=kept, where=store.where)


class SeededBatches(Sampler[list[int]]):
    """Batches of sample numbers: a permutation for every epoch that follows from (seed, epoch) alone.

    Each pass is the next epoch. A training that is resumed calls `go_on_at` and gets what it would have got.
    """

    def __init__(self, samples: int, batch: int, seed: int, *, shuffle: bool = True, drop_last: bool = False) -> None:
        if batch < 1:
            raise BadInput(f"a batch of {batch} samples is asked for; at least 1 is needed")
        self._samples, self._batch, self._seed = samples, batch, seed
        self._shuffle, self._drop_last = shuffle, drop_last
        self._epoch = self._first = 0

    def go_on_at(self, epoch: int, batch: int = 0) -> None:
        """Make the next pass the rest of `epoch`, from its batch number `batch` on."""
        self._epoch, self._first = epoch, batch

    def __len__(self) -> int:
        """Batches of a whole epoch."""
        return self._samples // self._batch if self._drop_last else -(-self._samples // self._batch)

    def __iter__(self) -> Iterator[list[int]]:
        epoch, first = self._epoch, self._first
        self._epoch, self._first = epoch + 1, 0
        order = np.arange(self._samples)
        if self._shuffle:
            order = np.random.default_rng([self._seed, epoch]).permutation(self._samples)
        for number in range(first, len(self)):
            yield order[number * self._batch : (number + 1) * self._batch].tolist()


def frame_loader(
    dataset: FrameDataset,
    batch: int,
    *,
    workers: int = 0,
    seed: int = 0,
    shuffle: bool = True,
    drop_last: bool = False,
    pin_memory: bool = False,
) -> DataLoader[Item]:
    """Batches of a data set, each read in one go; `loader.sampler` is the `SeededBatches` behind it.

    workers: processes that read ahead, spawned, so that none inherits open files or locks, and kept from epoch to
    epoch; 0 reads in this process. With workers, a script needs the usual `if __name__ == "__main__":`.
    """
    ahead: dict[str, Any] = {"multiprocessing_context": "spawn", "persistent_workers": True} if workers else {}
    return DataLoader(
        dataset,
        sampler=SeededBatches(len(dataset), batch, seed, shuffle=shuffle, drop_last=drop_last),
        batch_size=None,
        num_workers=workers,
        generator=torch.Generator().manual_seed(seed),
        pin_memory=pin_memory,
        **ahead,
    )


def kept_scenes(where: str, **options: Any) -> Scenes:
    """The scenes of a set. Raises BadInput when it keeps none."""
    scenes = Scenes.open(where, **options)
    if scenes is None:
        raise BadInput(f"{where} keeps no scenes; do without, or capture with `keep_scenes: true`")
    return scenes
