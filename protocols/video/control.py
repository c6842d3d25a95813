"""The control of every attacker on clips: the same network with the same effort on the undegraded clips.

An attacker that cannot win there proves nothing by losing against a camera. Controls do not depend on the camera, so
designs share them: they lie in `artifacts/attack-controls`, named by a hash of all that decides them.
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from labctl.durable import write_whole
from protocols.attack.recognisers import Effort
from protocols.metrics import majority_baseline
from protocols.splits import Split
from protocols.video.recognising import (
    ClipRecogniser,
    LabelledClips,
    Named,
    store_recogniser,
    stored_recogniser,
    train_clip_recogniser,
)

if TYPE_CHECKING:
    from protocols.attack.cycles import Pulse
    from protocols.data.clips import ClipSet
    from protocols.splits import IntArray
    from protocols.video.budget import ClipBudget
    from protocols.video.recognising import ClipReader

VERSION = 1


@dataclass(frozen=True)
class ClipControl:
    """What an attacker does on undegraded clips, and what always naming the most frequent actor gets there."""

    named: Named
    chance: float
    effort: Effort


@dataclass(frozen=True)
class SharpClips:
    """Who is to be named in undegraded clips. rows: of the data, by split. first: the first frame to be seen."""

    data: ClipSet
    fingerprint: str
    rows: dict[Split, IntArray]
    first: int = 0

    def part(self, split: Split) -> LabelledClips:
        """Undegraded clips of one split, -1 black to 1 white, with their actors."""
        rows = self.rows[split]
        clips = torch.from_numpy(np.asarray(self.data.clips[rows])[:, self.first :])
        return LabelledClips(2 * clips - 1, torch.from_numpy(self.data.actor[rows]))

    def key(self, attacker: ClipReader, budget: ClipBudget, seed: int) -> str:
        """A hash of all that decides a control."""
        settings: list[Any] = [VERSION, self.fingerprint, self.first, attacker.identity(),
                               budget.model_dump_json(), seed, list(self.data.clips.shape)]  # fmt: skip
        digest = hashlib.sha256(json.dumps(settings).encode())
        for values in (*(self.rows[split] for split in Split), self.data.actor):
            digest.update(np.ascontiguousarray(values).tobytes() + b"/")
        return digest.hexdigest()[:32]


def clip_control(
    folder: Path, task: SharpClips, attacker: ClipReader, budget: ClipBudget, *, seed: int, pulse: Pulse
) -> ClipControl:
    """The control of this attacker, from `folder` if it is there, else made and kept."""
    path = folder / f"{task.key(attacker, budget, seed)}.npz"
    if not path.exists():
        recogniser, effort = sharp_clip_recogniser(folder, task, attacker, budget, seed=seed, pulse=pulse)
        named = recogniser.named(task.part(Split.TEST))
        content = io.BytesIO()
        shares = np.empty(0) if named.frames is None else named.frames
        np.savez_compressed(
            content,
            clip=named.clip,
            frames=shares,
            predicted=named.predicted,
            effort=np.array(json.dumps(asdict(effort))),
        )
        write_whole(path, content.getvalue())
    with np.load(path, allow_pickle=False) as file:
        shares = file["frames"]
        named = Named(file["clip"], shares if len(shares) else None, file["predicted"])
        effort = Effort(**json.loads(str(file["effort"])))
    actors = task.data.actor
    return ClipControl(named, majority_baseline(actors[task.rows[Split.TRAIN]], actors[task.rows[Split.TEST]]), effort)


def sharp_clip_recogniser(
    folder: Path, task: SharpClips, attacker: ClipReader, budget: ClipBudget, *, seed: int, pulse: Pulse
) -> tuple[ClipRecogniser, Effort]:
    """A recogniser that learned from undegraded clips, from `folder` if it is there, else made and kept."""
    path = folder / f"{task.key(attacker, budget, seed)}.pt"
    train, n_classes = task.part(Split.TRAIN), len(task.data.actor_names)
    if path.exists():
        shape = tuple(int(side) for side in train.clips.shape[1:])
        return stored_recogniser(path, attacker, (shape[0], shape[1], shape[2], shape[3]), n_classes)
    recogniser, effort = train_clip_recogniser(
        attacker, budget, train, task.part(Split.VAL), n_classes, seed=seed, pulse=pulse
    )
    folder.mkdir(parents=True, exist_ok=True)
    store_recogniser(path, recogniser, effort)
    return recogniser, effort
