"""Mistakes in clips, and the clips to make them with."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.bad_input.lab import Case
from tests.protocols.clips.videos import cut_off, noise, stairs, write_tree, write_video

NPZ = "data: {type: npz_clips, path: d.npz, frames: 4}"
VIDEOS = "data: {type: video_tree, path: vids, actor: '^([a-z]+)_', frames: 4}"


def clips(folder: Path, **changes: object) -> None:
    """`d.npz` of twelve clips of nine frames, two actions, two actors, three splits; a change of None leaves a key."""
    arrays: dict[str, object] = {
        "clips": np.zeros((12, 9, 16, 16), dtype=np.uint8),
        "action": np.arange(12) % 2,
        "actor": np.arange(12) // 2 % 2,
        "split": np.repeat([0, 1, 2], 4),
    }
    chosen = {key: value for key, value in {**arrays, **changes}.items() if value is not None}
    np.savez(folder / "d.npz", **chosen)  # type: ignore[arg-type]


def videos(folder: Path) -> Path:
    """`vids` of two actions by two people, three videos each of nine frames."""
    return write_tree(folder / "vids", per_actor=3, n=9)


def _spoilt(name: str, frames: np.ndarray, times_ms: list[int] | None = None):  # type: ignore[no-untyped-def]
    return lambda folder: write_video(videos(folder) / "wave" / name, frames, times_ms=times_ms) and None


CLIP_CASES = [
    # --- clips
    Case(
        "more clips than digits",
        "p.yaml:2:7: data: moving_digits: train, val and test ask for 2600 clips; 1797 digits are there, each for one",
        "data: {type: moving_digits, train: 2000}",
    ),
    Case(
        "clips without actors",
        "p.yaml:2:31: data.path: npz file 'd.npz' lacks 'actor'; found 'action', 'clips', 'split'; write these too",
        NPZ,
        make=lambda folder: clips(folder, actor=None),
    ),
    Case(
        "clips of pictures",
        "p.yaml:2:31: data.path: npz file 'd.npz': clips have shape (12, 16, 16), type uint8; (N, T, H, W) uint8 or",
        NPZ,
        make=lambda folder: clips(folder, clips=np.zeros((12, 16, 16), dtype=np.uint8)),
    ),
    Case(
        "clips out of range",
        "p.yaml:2:31: data.path: npz file 'd.npz': clip 0 spans 255..255; 0..1 is allowed for float clips; divide",
        NPZ,
        make=lambda folder: clips(folder, clips=np.full((12, 9, 16, 16), 255.0)),
    ),
    Case(
        "clips shorter than the window",
        "p.yaml:2:31: data.path: npz file 'd.npz': clips have 9 frames; frames = 16 with stride = 2 need 31; lower",
        "data: {type: npz_clips, path: d.npz}",
        make=clips,
    ),
    Case(
        "a split of clips with an actor missing",
        "p.yaml:2:31: data.path: npz file 'd.npz' has no test clip of actor '1'; every actor needs at least one",
        NPZ,
        make=lambda folder: clips(folder, actor=np.arange(12) // 2 % 2 * (np.arange(12) < 8)),
    ),
    Case(
        "video folder missing",
        "p.yaml:2:32: data.path: video folder 'vids' does not exist; give the folder that holds the videos",
        VIDEOS,
    ),
    Case(
        "a video shorter than the window",
        "p.yaml:2:32: data.path: video folder 'vids': 1 of 12 recordings are shorter than the window of 7 frames "
        "(frames = 4, stride = 2): 'wave/bob_1.avi': 5 frames; lower frames or stride, remove these, or set `short:",
        VIDEOS,
        make=_spoilt("bob_1.avi", stairs(5)),
    ),
    Case(
        "a video of variable frame rate",
        "p.yaml:2:32: data.path: video folder 'vids': 1 of 13 recordings have a variable frame rate: 'wave/bob_3.mp4': "
        "frames come after 20 to 80 ms; give them a constant one",
        VIDEOS,
        make=_spoilt("bob_3.mp4", stairs(10), [0, 40, 80, 160, 180, 220, 260, 300, 340, 400]),
    ),
    Case(
        "a file that is no video",
        "p.yaml:2:32: data.path: video folder 'vids': 1 of 12 recordings cannot be read: 'wave/bob_1.avi': Invalid "
        "data found when processing input; repair or remove them, or set `corrupt: skip`",
        VIDEOS,
        make=lambda folder: (videos(folder) / "wave" / "bob_1.avi").write_bytes(b"hello") and None,
    ),
    Case(
        "a truncated video",
        "p.yaml:2:32: data.path: video folder 'vids': 1 of 12 recordings cannot be read: 'wave/bob_1.avi': its header",
        VIDEOS,
        make=lambda folder: cut_off(write_video(videos(folder) / "wave" / "bob_1.avi", noise(60))) and None,
    ),
    Case(
        "a video of no actor",
        "p.yaml:2:32: data.path: video folder 'vids': actor '^([a-z]+)_' finds nobody in 1 of 7 videos of 'wave', "
        "'wave/7.avi'; it must tell of every video who is seen; rename or remove these, or change `actor`",
        VIDEOS,
        make=_spoilt("7.avi", stairs(9)),
    ),
    Case(
        "a video of no class",
        "p.yaml:2:25: data.path: video folder 'vids': 12 of 12 recordings are of no class, 'jump/ann_0.avi',",
        "data: {type: kth, path: vids}",
        make=lambda folder: videos(folder) and None,
    ),
    Case(
        "an actor without training videos",
        "p.yaml:2:32: data.path: video folder 'vids': actor 'zoe' has 1 clip for 3 parts with fractions (0.6,",
        VIDEOS,
        make=_spoilt("zoe_0.avi", stairs(9)),
    ),
    Case(
        "a pattern without an actor",
        "p.yaml:2:45: data.actor: '[a-z]+' has no group; put what names the actor into parentheses",
        "data: {type: video_tree, path: vids, actor: '[a-z]+'}",
        make=lambda folder: videos(folder) and None,
    ),
]
