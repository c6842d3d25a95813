"""Small videos to read: encoded here, so that every frame is known."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

ROWS, COLUMNS = 48, 64
STEP = 6
"""Grey levels between one frame and the next."""


def stairs(n: int, base: int = 20) -> np.ndarray:
    """(n, 48, 64) uint8: frame k is even, at level base + 6 k; so a frame says its number."""
    levels = base + STEP * np.arange(n)
    return np.broadcast_to(levels[:, None, None], (n, ROWS, COLUMNS)).astype(np.uint8)


def noise(n: int, seed: int = 0) -> np.ndarray:
    """(n, 48, 64) uint8 that compress badly, so that a cut takes frames away."""
    return np.random.default_rng(seed).integers(0, 256, (n, ROWS, COLUMNS), dtype=np.uint8)


def write_video(
    path: Path, frames: np.ndarray, *, codec: str = "mpeg4", rate: int = 25, times_ms: Sequence[int] | None = None
) -> Path:
    """Encode grey frames (n, H, W) uint8; times_ms puts each at its own time, for a variable frame rate."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = frames.shape[1:]
        stream.pix_fmt, stream.bit_rate = "yuv420p", 4_000_000
        clock = Fraction(1, rate) if times_ms is None else Fraction(1, 1000)
        stream.codec_context.time_base = clock
        for number, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="gray").reformat(format="yuv420p")
            frame.pts, frame.time_base = number if times_ms is None else int(times_ms[number]), clock
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def numbers(clip: np.ndarray, base: int = 20) -> list[int]:
    """Which frames of `stairs` a clip (T, 1, H, W) shows."""
    return [round(float((frame.mean() * 255 - base) / STEP)) for frame in clip]


def cut_off(path: Path, share: float = 0.6) -> Path:
    """Keep the first part of a file."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def write_tree(root: Path, *, per_actor: int = 5, n: int = 20, suffix: str = ".avi") -> Path:
    """Two actions by two people, `per_actor` videos of each, `n` frames long: wave/ann_0.avi and so on."""
    for a, action in enumerate(("jump", "wave")):
        for b, actor in enumerate(("ann", "bob")):
            for take in range(per_actor):
                write_video(root / action / f"{actor}_{take}{suffix}", stairs(n, 20 + 3 * take + 10 * a + 20 * b))
    return root
