"""Batches of 32 random scenes of 63x63: from the file of a set that does not fit in memory, against an array."""

from __future__ import annotations

import numpy as np
import pytest

from protocols.data.image_set import Pictures
from protocols.data.scene_store import FileStore, MemoryStore

SCENES, BATCH = 20_000, 32
SHAPE = (63, 63)
GROUP = "loader: batch of 32, 63x63"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pictures]:
    """The same scenes in a file and in memory."""
    stores = {
        "file": FileStore(tmp_path_factory.mktemp("scenes") / "a.scenes", "benchmark", SCENES, SHAPE),
        "memory": MemoryStore(SCENES, SHAPE),
    }
    draws = np.random.default_rng(0)
    block = 1000
    for store in stores.values():
        with store.filling():
            for start in range(0, SCENES, block):
                scenes = draws.integers(0, 65536, (block, *SHAPE), dtype=np.uint16)
                sizes, coloured = np.full((block, 2), 112), np.zeros(block, dtype=np.bool_)
                store.put(np.arange(start, start + block), scenes, sizes, coloured)
    return {name: store.pictures(np.arange(SCENES)) for name, store in stores.items()}


@pytest.mark.parametrize(("source", "role"), [("file", "ours"), ("memory", "floor")])
def test_bench_batches(benchmark, pictures, source, role):
    images, draws = pictures[source], np.random.default_rng(1)
    benchmark.extra_info.update({"ratio_group": GROUP, "role": role, "label": f"scenes from {source}"})
    benchmark.pedantic(lambda rows: images[rows], setup=lambda: ((draws.integers(0, SCENES, BATCH),), {}), rounds=2000)
    benchmark.extra_info["images_per_s"] = round(BATCH / benchmark.stats["mean"])


def test_bench_epoch_order(benchmark, pictures):
    """Neighbours in the file, as a capture or a test reads them: what is left is the copy and the checksum."""
    images = pictures["file"]
    benchmark.extra_info.update({"label": "1000 scenes in order, from file"})
    benchmark.pedantic(lambda: images[5000:6000], rounds=50)
    benchmark.extra_info["images_per_s"] = round(1000 / benchmark.stats["mean"])
