"""What an attack found, item by item, as files: nothing is averaged before the audit has seen it."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from labctl.durable import write_json, write_whole
from labctl.errors import RunFailed

FOLDER, SUMMARY = "attacks", "attacks.json"

Measure = Literal["accuracy", "ssim", "psnr_db"]
"""`accuracy`: items are True where a name was right. `ssim`, `psnr_db`: how good each reconstruction is."""

Where = Literal["frame", "field", "centre", "clip", "foreground"]
"""What was judged: the coded frame itself; the whole scene; as much of its middle as a frame is large; a whole clip;
what moves in a clip."""

MEASURE_OF = {"ssim": "ssim", "psnr_db": "psnr_db"}
"""Goals that are no names. Every other goal (identity, reidentification, an attribute) is an accuracy."""


@dataclass(frozen=True)
class Attack:
    """One attacker against one trained camera.

    goal: what it is after: `identity` or an attribute (from frames), `actor` (from clips), `reidentification` (from
    reconstructions), `ssim`, `psnr_db`. attacker: family or method. knows: what it is given, in words. stage:
    `simulated` or `captured` frames. operator: which read-out of a camera for clips was attacked, empty where there is
    one only. items: (n,) bool, or float (a likeness; the share of the frames of a clip), of the test items `sample_ids`
    (n,). chance: what needs no camera at all: the most frequent name; the mean training picture. control: (m,) the same
    attacker on the undegraded picture; reached: what it reaches there, needed: what it has to reach to prove anything.
    converged: it stopped getting better before its budget ended. counts: whether the verdict may rest on it; what else
    it assumes stands in `note`.
    """

    goal: str
    attacker: str
    knows: str
    where: Where
    stage: Literal["simulated", "captured"]
    items: npt.NDArray[Any]
    sample_ids: npt.NDArray[np.int64]
    chance: float
    control: npt.NDArray[Any]
    control_chance: float
    needed: float
    converged: bool = True
    counts: bool = True
    note: str = ""
    operator: str = ""
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def measure(self) -> Measure:
        """In which unit `items` are."""
        return "ssim" if self.goal == "ssim" else "psnr_db" if self.goal == "psnr_db" else "accuracy"

    @property
    def mean(self) -> float:
        """Over the items."""
        return float(np.mean(self.items))

    @property
    def reached(self) -> float:
        """What the attacker reaches on the undegraded picture."""
        return float(np.mean(self.control))

    @property
    def proven(self) -> bool:
        """Whether the attacker succeeds where nothing is hidden. Else its failure here proves nothing."""
        return self.reached >= self.needed

    @property
    def name(self) -> str:
        """What tells it from the other attacks on the same camera."""
        return name_of(self.goal, self.attacker, self.knows, self.where, self.stage, self.operator)

    def as_row(self) -> dict[str, Any]:
        """Plain values without the items, for JSON."""
        plain = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in _ARRAYS}
        return {**plain, "measure": self.measure, "mean": self.mean, "reached": self.reached, "proven": self.proven,
                "n_test": len(self.items)}  # fmt: skip


def name_of(goal: str, attacker: str, knows: str, where: Where, stage: str, operator: str = "") -> str:
    """See `Attack.name`."""
    return ", ".join((goal, attacker, knows, where, stage, *([operator] if operator else [])))


_ARRAYS = ("items", "sample_ids", "control")


class AttackFolder:
    """The attacks of one step on one camera, each on the disk as soon as it is made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def has(self, name: str) -> bool:
        """Whether the attack of this `Attack.name` is there."""
        return self._path(name).exists()

    def add(self, attack: Attack) -> None:
        """Write one attack."""
        (self.folder / FOLDER).mkdir(exist_ok=True)
        content = io.BytesIO()
        plain = {f.name: getattr(attack, f.name) for f in fields(attack) if f.name not in _ARRAYS}
        arrays = {name: np.asarray(getattr(attack, name)) for name in _ARRAYS}
        np.savez_compressed(content, **arrays, facts=np.array(json.dumps(plain)))  # type: ignore[arg-type]
        write_whole(self._path(attack.name), content.getvalue())

    def finish(self) -> Path:
        """Write the list of all attacks without their items; returns its path."""
        path = self.folder / SUMMARY
        write_json(path, [attack.as_row() for attack in self])
        return path

    def __iter__(self) -> Iterator[Attack]:
        for path in sorted((self.folder / FOLDER).glob("*.npz")):
            yield _read(path)

    def _path(self, name: str) -> Path:
        return self.folder / FOLDER / f"{re.sub(r'[^A-Za-z0-9.-]+', '_', name)}.npz"


def _read(path: Path) -> Attack:
    try:
        with np.load(path, allow_pickle=False) as file:
            plain = json.loads(str(file["facts"]))
            return Attack(**plain, **{name: file[name] for name in _ARRAYS})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunFailed(f"{path} cannot be read ({error}); remove it and resume the run") from error
