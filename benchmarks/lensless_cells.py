"""One cell of the lensless benchmarks: a camera trained and tested by the steps of a protocol."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cells import one_thread

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
    one_thread(out / "work" / "state")
    named = os.environ.get("LABCTL_DATA")
    if not named:
        raise SystemExit("set LABCTL_DATA to the folder that holds the sets of faces")
    return Path(named)


def right_of(cell: Mapping[str, Any]) -> Any:
    """(n,) bool answers of a cell, in the order of the sample ids."""
    from ladder_cell import unpacked

    return unpacked(cell["right"], cell["n_test"])
