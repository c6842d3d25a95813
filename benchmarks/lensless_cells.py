"""Cells of the lensless benchmarks: one camera trained and tested by the steps of a protocol, one JSON line each."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROTOCOL = Path(__file__).parents[1] / "configs" / "protocols" / "paper-lensless-table.yaml"


@dataclass(frozen=True)
class FaceSet:
    """A set of faces in the folder that LABCTL_DATA names. epochs: of a training at 63/32."""

    name: str
    title: str
    file: str
    epochs: int
    settings: str = ""

    def overrides(self, data: Path) -> list[str]:
        """Of the protocol. Raises SystemExit without the file."""
        path = data / self.file
        if not path.is_file():
            raise SystemExit(f"{path} is not there; set LABCTL_DATA to the folder that holds {self.file}")
        return [f"data={{type: npz, path: {path}{self.settings}}}", f"steps.train.epochs={self.epochs}"]


SETS = {
    "lfw": FaceSet("lfw", "LFW, 11 identities with 50 or more pictures", "faces_lfw/lfw_min20.npz", 30,
                   ", min_per_identity: 50, apart: [near_duplicate_group]"),
    "extyaleb": FaceSet("extyaleb", "Extended Yale B, tested under light from the side", "faces_extyaleb/extyaleb.npz",
                        20, ", split_key: split_light"),
    "orl": FaceSet("orl", "ORL, 40 identities", "faces_orl/orl.npz", 60),
}  # fmt: skip


class Cells:
    """Cells that are there, by the values of `keys`; kept in `path`, one line each, so that a stopped run goes on."""

    def __init__(self, path: Path, keys: Sequence[str]) -> None:
        self.path, self.keys = path, tuple(keys)
        self.there: dict[tuple[Any, ...], dict[str, Any]] = {}
        for line in path.read_text().splitlines() if path.exists() else []:
            try:
                cell = json.loads(line)
            except ValueError:  # cut off when somebody stopped it
                continue
            self.there[self._key(cell)] = cell

    def missing(self, wanted: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Of these, in order, those that are not there."""
        return [dict(cell) for cell in wanted if self._key(cell) not in self.there]

    def of(self, **values: Any) -> list[dict[str, Any]]:
        """Cells with these values."""
        return [cell for cell in self.there.values() if all(cell[key] == value for key, value in values.items())]

    def add(self, cell: Mapping[str, Any]) -> None:
        """Keep one more, on the disk before it counts."""
        with self.path.open("a") as file:
            file.write(json.dumps(cell) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.there[self._key(cell)] = dict(cell)

    def _key(self, cell: Mapping[str, Any]) -> tuple[Any, ...]:
        return tuple(cell[key] for key in self.keys)


def train_and_test(design: str, seed: int, overrides: Sequence[str], rig: Sequence[str], work: Path) -> dict[str, Any]:
    """Train and test one design of PROTOCOL by its own steps; what they measured, and the answers.

    rig: name, then overrides of it. work: a folder that is made and removed: it holds frames of faces.
    """
    from ladder_cell import answers_of, climb, packed

    from labctl.protocol import load_protocol, plan_run
    from labctl.rig_file import find_rig, load_rig

    changes = [*overrides, f"seeds=[{seed}]", f"compare=[{design}]", "steps.report=null"]
    plan = plan_run(load_protocol(PROTOCOL, overrides=changes), load_rig(find_rig(rig[0]), overrides=list(rig[1:])))
    shutil.rmtree(work, ignore_errors=True)
    try:
        done = climb(plan, work)
        if done.failed:
            raise SystemExit(f"{design}, seed {seed}: {done.failed}")
        results = {key.split("/")[0]: result for key, result in done.results.items()}
        right = answers_of(results["simulated"])[1]
        trained, tested = results["train"].metrics, results["simulated"].metrics
    finally:
        shutil.rmtree(work, ignore_errors=True)
    kept = ("accuracy", "majority", "n_test", "blurriness", "blurriness_noise_free", "aperture_ratio", "white_e")
    terms = {name: value for name, value in trained.items() if name.startswith("term_")}
    return {
        **{name: tested[name] for name in kept},
        "val_accuracy": trained.get("val_accuracy"),
        "train_accuracy": trained["train_accuracy"],
        "terms": terms,
        "right": packed(right),
        "seconds": done.seconds["train"],
    }


def prepare(out: Path) -> Path:
    """One thread, a state folder of its own; returns the folder with data that LABCTL_DATA names."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    state = out / "work" / "state"
    state.mkdir(parents=True, exist_ok=True)
    os.environ["LABCTL_STATE"] = str(state)
    import torch

    torch.set_num_threads(1)
    named = os.environ.get("LABCTL_DATA")
    if not named:
        raise SystemExit("set LABCTL_DATA to the folder that holds the sets of faces")
    return Path(named)


def own_folder(out: Path) -> Path:
    """Where this process may work: several can fill one folder, each with cells of its own."""
    return out / "work" / f"cell-{os.getpid()}"


def until(minutes: float | None) -> Callable[[], bool]:
    """Whether the time is up; a cell that has begun is ended."""
    began = time.monotonic()
    return lambda: minutes is not None and time.monotonic() - began > 60 * minutes


def say(text: str) -> None:
    """One line for who waits."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')}  {text}\n")
    sys.stderr.flush()


def right_of(cell: Mapping[str, Any]) -> Any:
    """(n,) bool answers of a cell, in the order of the sample ids."""
    from ladder_cell import unpacked

    return unpacked(cell["right"], cell["n_test"])
