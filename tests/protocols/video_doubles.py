"""Clips of three shapes that move in two directions, and small cameras that read them, for tests of judging."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from labctl.references import Reference
from labctl.steps import StepContext, StepResult, StepSetting
from protocols.data.clips import ClipSet, ClipSource
from protocols.keys import stream_seed
from protocols.splits import IntArray, Split
from protocols.video.encoded import EncodedClips
from sim.designs.video.base import Operator, VideoDesign

SIDE, FRAMES = 16, 6


class Plain(VideoDesign):
    """Reads light as it is, -1 black to 1 white."""

    def mask(self) -> Tensor:
        return torch.ones(5, 5)

    def read_clips(self, light: Tensor, operator: Operator = "soft") -> Tensor:
        self.check_clips(light, operator)
        return 2 * light - 1


class Steps(Plain):
    """The change from frame to frame, quantised at `thresholds`; soft edges are `1 / temperature` wide."""

    span = 2
    operators = ("soft", "hard")

    def __init__(self, thresholds: tuple[float, ...] = (-0.3, -0.1, 0.1, 0.3), temperature: float = 60.0) -> None:
        super().__init__()
        self.thresholds, self.temperature = thresholds, temperature

    def read_clips(self, light: Tensor, operator: Operator = "soft") -> Tensor:
        self.check_clips(light, operator)
        change = light[:, 1:] - light[:, :-1]
        edges = [change - threshold for threshold in self.thresholds]
        above = [(e > 0).float() if operator == "hard" else torch.sigmoid(self.temperature * e) for e in edges]
        return 2 * torch.stack(above).mean(0) - 1


class Nothing(Plain):
    """A closed camera: it reads noise."""

    def read_clips(self, light: Tensor, operator: Operator = "soft") -> Tensor:
        self.check_clips(light, operator)
        return torch.randn(light.shape, generator=torch.Generator().manual_seed(int(light.sum() * 1e4)))


def clip_set(n: int = 150, *, actors: bool = True) -> ClipSet:
    rng = np.random.default_rng(3)
    shapes = np.zeros((3, 5, 5))
    shapes[0, 1:4, 1:4], shapes[1, 2, :], shapes[1, :, 2] = 1, 1, 1
    shapes[2, :, 0] = shapes[2, :, 4] = 1
    action, actor = np.arange(n) % 2, np.arange(n) // 2 % 3
    clips = np.full((n, FRAMES, 1, SIDE, SIDE), 0.1, dtype=np.float32)
    for k in range(n):
        y, x = rng.integers(3, 8, 2)
        for t in range(FRAMES):
            left = int(x + (t - 2) * (1 if action[k] else -1))
            clips[k, t, 0, y : y + 5, left : left + 5] += 0.7 * shapes[actor[k]]
    clips += rng.normal(0, 0.01, clips.shape).astype(np.float32)
    split = (np.arange(n) // 6 % 3).astype(np.uint8)
    names = ("left", "right"), ("block", "cross", "bars")
    if not actors:
        actor = np.where(split == 2, 2, actor % 2)
    return ClipSet(clips.clip(0, 1), action, actor, split, *names, np.arange(n) * 7)


class Clips(ClipSource):
    """A source that holds its clips."""

    type: str = "held"
    actors: bool = True

    def load_clips(self, scene_shape: tuple[int, int]) -> ClipSet:
        return clip_set(actors=self.actors)

    def labels(self) -> tuple[IntArray, IntArray]:
        return clip_set().action, clip_set(actors=self.actors).actor

    @property
    def clip_frames(self) -> int:
        return FRAMES

    def check(self) -> None:
        """Nothing can be missing."""

    def fingerprint(self) -> str:
        return "held"


def encoded(
    context: Any, data: ClipSet, camera: Any, split: Split, *, operator: Operator, frames: Path | None,
    measurement: Any = None,
) -> EncodedClips:  # fmt: skip
    rows = data.part(split)
    light = torch.from_numpy(np.asarray(data.clips[rows]))
    noise = torch.Generator().manual_seed(stream_seed("noise", int(split), frames is None))
    light = light + 0.01 * torch.randn(light.shape, generator=noise)
    read = camera.design.read_clips(light, operator).detach()
    labels = (torch.from_numpy(values[rows]) for values in (data.action, data.actor))
    return EncodedClips(read, *labels, data.clip_ids[rows])


CAMERAS: dict[Path, Any] = {}
FRAMES_OF = Reference.parse("${steps.capture.frames}")
MODEL = Reference.parse("${steps.train.model}")


def load_video_camera(path: Path, setting: Any) -> Any:
    return CAMERAS[path]


@dataclass
class Bench:
    """Runs single steps on a camera, as a run would."""

    folder: Path
    design: VideoDesign
    data: Clips = field(default_factory=Clips)
    said: list[str] = field(default_factory=list)
    stop_after: int | None = None

    def run(self, step: Any, name: str = "judged", design: str = "d", seed: int = 0) -> StepResult:
        folder = self.folder / "artifacts" / design / f"s{seed}" / name
        folder.mkdir(parents=True, exist_ok=True)
        model = self.folder / f"{design}.pt"
        CAMERAS[model] = SimpleNamespace(design=self.design)
        protocol = SimpleNamespace(data=self.data, grids=lambda: ((SIDE, SIDE), (5, 5)))
        twin = SimpleNamespace(frame_shape=lambda cells, scene: scene)
        rig = SimpleNamespace(name="bench", twin=twin)
        setting = StepSetting(protocol, rig, name, design, seed)  # type: ignore[arg-type]
        context = StepContext(
            setting, folder, self.folder, {MODEL: model, FRAMES_OF: self.folder / "frames"}, self._hear, self._stop,
            "hash",
        )  # fmt: skip
        return step.run(context)  # type: ignore[no-any-return]

    def _hear(self, message: dict[str, Any]) -> None:
        if message["op"] == "log":
            self.said.append(message["text"])

    def _stop(self) -> bool:
        done = sum("actor by" in line for line in self.said)
        return self.stop_after is not None and done >= self.stop_after
