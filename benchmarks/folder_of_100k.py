"""What a folder of 100,000 pictures costs: the first look, every later one, a batch, and the memory for it.

    python benchmarks/folder_of_100k.py [PICTURES]

Draws a tree of 112x112 JPEG files, 100 for each identity, in a temporary folder (about 1.3 GB with the cache), decodes
it to 63x63 scenes, and reads it as training does, in a fresh process. All is removed at the end.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from protocols.data import Folder

SCENE = (63, 63)
PER_IDENTITY = 100
BATCH, BATCHES = 32, 2000


def main() -> None:
    """Draw the tree, measure each look in a process of its own, print."""
    pictures = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory(prefix="labctl-bench-") as folder:
        os.environ["LABCTL_CACHE"] = f"{folder}/cache"
        began = time.perf_counter()
        draw_tree(Path(folder) / "tree", pictures)
        print(f"{'drawn':34s} {time.perf_counter() - began:8.1f} s")  # noqa: T201
        first = _in_a_process("look", f"{folder}/tree")
        print(f"{'first look (decodes all)':34s} {first['look_s']:8.1f} s  {pictures / first['look_s']:8.0f} images/s")  # noqa: T201
        print(f"{'  peak memory':34s} {first['peak_mb']:8.0f} MB")  # noqa: T201
        cached = sum(file.stat().st_size for file in Path(folder, "cache").rglob("*.scenes"))
        print(f"{'  cache file':34s} {cached / 1e6:8.0f} MB")  # noqa: T201
        later = _in_a_process("read", f"{folder}/tree")
        for name, unit in (("imports_s", "s"), ("look_s", "s"), ("first_batch_s", "s")):
            print(f"{'later process: ' + name[:-2]:34s} {later[name]:8.2f} {unit}")  # noqa: T201
        print(f"{'  random batches of ' + str(BATCH):34s} {later['images_per_s']:8.0f} images/s")  # noqa: T201
        print(f"{'  memory after imports':34s} {later['imports_mb']:8.0f} MB")  # noqa: T201
        print(f"{'  peak memory':34s} {later['peak_mb']:8.0f} MB")  # noqa: T201


def draw_tree(root: Path, pictures: int) -> None:
    """CLASS/PICTURE of 112x112 JPEG files with random smooth content, about 3 kB each."""
    from PIL import Image

    def draw(identity: int) -> None:
        draws = np.random.default_rng(identity)
        folder = root / f"m.{identity:05x}"
        folder.mkdir(parents=True)
        for number in range(PER_IDENTITY):
            coarse = Image.fromarray(draws.integers(0, 256, (8, 8, 3), dtype=np.uint8))
            coarse.resize((112, 112), Image.Resampling.BICUBIC).save(folder / f"{number:03}.jpg", quality=90)

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        list(threads.map(draw, range(pictures // PER_IDENTITY)))


def look(tree: str) -> dict[str, float]:
    """Time to everything that a run asks of its data before it starts."""
    began = time.perf_counter()
    _planned(tree)
    return {"look_s": time.perf_counter() - began, "peak_mb": _peak_mb()}


def read(tree: str) -> dict[str, float]:
    """Time to the first batch, rate of random batches, and the memory that they take."""
    imports_mb = _peak_mb()
    began = time.perf_counter()
    source = _planned(tree)
    looked = time.perf_counter()
    data = source.load(SCENE)
    train = data.part("train")
    draws = np.random.default_rng(0)
    data.images[draws.choice(train, BATCH)]
    first = time.perf_counter()
    for _ in range(BATCHES):
        data.images[draws.choice(train, BATCH)]
    rate = BATCH * BATCHES / (time.perf_counter() - first)
    return {
        "look_s": looked - began,
        "first_batch_s": first - looked,
        "images_per_s": rate,
        "imports_mb": imports_mb,
        "peak_mb": _peak_mb(),
    }


def _planned(tree: str) -> Folder:
    source = Folder(path=Path(tree))
    source.check_pixels(SCENE)
    source.check()
    source.fingerprint()
    return source


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _in_a_process(what: str, tree: str) -> dict[str, float]:
    code = (
        f"import json, time; began = time.time(); import runpy; m = runpy.run_path({__file__!r}); ready = time.time();"
        f"print(json.dumps({{**m[{what!r}]({tree!r}), 'imports_s': ready - began}}))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True)
    said: dict[str, float] = json.loads(done.stdout)
    return said


if __name__ == "__main__":
    main()
