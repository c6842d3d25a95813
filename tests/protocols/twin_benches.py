"""Small as-built benches for the twin fit: 16x16 cells, 31x31 scene pixels, frames of 16x16."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

from labctl.api import open_rig
from protocols.calibrate.bench import Bench
from tests.protocols.small_rig import SMALL_RIG

SCENE_PX, CELLS = (31, 31), (16, 16)


@contextmanager
def bench(folder: Path, *, seed: int = 1, changes: Sequence[str] = (), rig: str = "as-built") -> Iterator[Bench]:
    """A bench for the kind `twin` on an opened small rig."""
    with open_rig(rig, set=[*SMALL_RIG, f"world.seed={seed}", *changes]) as opened:
        yield Bench(
            rig=opened,
            kind="twin",
            scene_px=SCENE_PX,
            cells=CELLS,
            frame_shape=opened.spec.twin.frame_shape(CELLS, SCENE_PX),
            built_on={},
            context=SimpleNamespace(folder=folder, stop_here=lambda text: None, log=lambda text: None),  # type: ignore[arg-type]
            first_id=1000,
        )
