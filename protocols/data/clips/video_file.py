"""One recording on the disk, a video file or a folder of pictures: its frames, and whether they can be trusted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from labctl.errors import BadInput
from protocols.data.clips.windows import Start, window_places
from protocols.images import Encoding, Radiance, UnreadablePicture, linear_radiance, read_picture
from protocols.picture_tree import PICTURE_SUFFIXES
from protocols.splits import IntArray

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame

VIDEO_SUFFIXES = frozenset({".avi", ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv"})

FrameRate = Literal["constant", "any"]
"""`constant` refuses videos whose frames are not evenly spaced in time; `any` takes frames by number whatever their
times."""

Short = Literal["refuse", "repeat"]
"""`refuse`: a recording shorter than the window is a mistake. `repeat` goes through it again from its first frame, as
BDQ's code does."""

RATE_TOLERANCE = 0.01
"""Of the usual time between two frames; a tick of the file's own clock is allowed in any case."""

HEADER_SLACK = 2
"""Frames that a header may count and the file not hold: AVI files with packed B-frames are off by one or two."""

SEEK_FROM = 64
"""A window that starts later is sought by time; before that, decoding from the start is as quick, and surer."""


class ShortRecording(UnreadablePicture):
    """A recording with fewer frames than the window."""


class UnevenRecording(UnreadablePicture):
    """A recording whose frames are not evenly spaced in time."""


@dataclass(frozen=True)
class Window:
    """Which frames are wanted, and what is accepted; see `WindowedSource`, `Short` and `FrameRate`."""

    frames: int
    stride: int
    start: Start
    short: Short
    frame_rate: FrameRate

    @property
    def span(self) -> int:
        """Frames from the first to the last of the window."""
        return (self.frames - 1) * self.stride + 1


def require_av() -> Any:
    """The library that decodes videos. Raises BadInput where it is missing."""
    try:
        import av
    except ImportError as error:
        raise BadInput(f"videos need PyAV, which cannot be imported ({error}); pip install 'labctl[video]'") from error
    return av


def read_window(path: Path, window: Window, encoding: Encoding, first: int = 0, last: int | None = None) -> Radiance:
    """(T, H, W) radiance 0..1 of the window in frames `first` to `last` (counted from 0, both included) of a recording.

    A video's grey is its luma, stretched to 0..1 and then linearised as `encoding` says; rotation marks and pixel
    aspect are not applied. Of a folder, the pictures by name. Raises UnreadablePicture, or one of its kinds here.
    """
    if path.is_dir():
        pictures = pictures_of(path)
        places = _places(len(pictures), window, first, last)
        return _stacked(read_picture(pictures[place], encoding) for place in places)
    times, said = _packets(path, *_state(path))
    if len(times) < said - HEADER_SLACK:
        raise UnreadablePicture(f"its header counts {said} frames, {len(times)} are there: it is cut off")
    places = _places(len(times), window, first, last)
    if window.frame_rate == "constant":
        _require_even(times[first : len(times) if last is None else last + 1], _tick(path, *_state(path)))
    frames = _frames_at(path, places, times)
    return _stacked(linear_radiance(frames[int(place)], encoding) for place in places)


def check_recording(path: Path) -> None:
    """Look at the header only. Raises UnreadablePicture when there is nothing to decode."""
    if path.is_dir():
        return
    with _opened(path):
        pass


def pictures_of(folder: Path) -> list[Path]:
    """Pictures of a recording that lies as a folder, by name; of the colour and depth pictures of a Kinect, the colour
    ones, which are called `rgb`."""
    try:
        found = sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURE_SUFFIXES)
    except OSError as error:
        raise UnreadablePicture(f"it cannot be listed: {error.strerror}") from error
    colour = [path for path in found if path.name.startswith("rgb")]
    return colour or found


def _places(n: int, window: Window, first: int, last: int | None) -> IntArray:
    there = (n if last is None else min(n, last + 1)) - first
    if there < (1 if window.short == "repeat" else window.span):
        raise ShortRecording(f"{max(there, 0)} {'frame' if there == 1 else 'frames'}")
    return first + window_places(there, window.frames, window.stride, window.start)


def _stacked(frames: Iterable[Radiance]) -> Radiance:
    taken = list(frames)
    shapes = sorted({frame.shape for frame in taken})
    if len(shapes) > 1:
        raise UnreadablePicture(f"its frames have several sizes, {shapes[0]} and {shapes[1]}")
    return np.stack(taken)


def _require_even(times: IntArray, tick_s: float) -> None:
    gaps = np.diff(np.sort(times)).astype(np.float64)
    if len(gaps) == 0:
        return
    usual = float(np.median(gaps))
    if np.abs(gaps - usual).max() > max(1.0, RATE_TOLERANCE * usual):
        raise UnevenRecording(
            f"frames come after {gaps.min() * tick_s * 1e3:.3g} to {gaps.max() * tick_s * 1e3:.3g} ms"
        )


def _frames_at(path: Path, places: IntArray, times: IntArray) -> dict[int, Radiance]:
    """Luma 0..1 by place; places ascend but for repeats."""
    ordered = np.sort(times)
    first, last = int(places.min()), int(places.max())
    wanted = set(places.tolist())
    frames: dict[int, Radiance] = {}
    if first >= SEEK_FROM and len(np.unique(times)) == len(times):
        place_of = {int(ordered[place]): place for place in wanted}
        for frame in _decoded(path, from_time=int(ordered[first])):
            if frame.pts in place_of:
                frames[place_of[frame.pts]] = _luma(frame)
            if frame.pts is None or frame.pts >= ordered[last]:
                break
        if len(frames) == len(wanted):
            return frames
    decoded = 0
    for place, frame in enumerate(_decoded(path)):
        decoded = place + 1
        if place in wanted:
            frames[place] = _luma(frame)
        if place >= last:
            return frames
    raise UnreadablePicture(f"only {decoded} of {len(times)} frames can be decoded: it is damaged")


def _luma(frame: VideoFrame) -> Radiance:
    if frame.is_corrupt:
        raise UnreadablePicture(f"the frame at {frame.time or 0:.2f} s is damaged")
    return np.asarray(frame.to_ndarray(format="gray"), dtype=np.float32) / np.float32(255)


def _decoded(path: Path, from_time: int | None = None) -> Iterator[VideoFrame]:
    with _opened(path) as container:
        stream = container.streams.video[0]
        if from_time is not None:
            container.seek(from_time, stream=stream, backward=True)
        yield from container.decode(stream)


@contextmanager
def _opened(path: Path) -> Iterator[InputContainer]:
    """A container with a video stream; what PyAV raises inside becomes UnreadablePicture."""
    av = require_av()
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise UnreadablePicture("it holds no video stream")
            yield container
    except av.FFmpegError as error:
        raise UnreadablePicture(_cause(error)) from error


def _cause(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)


def _state(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError as error:
        raise UnreadablePicture(str(error.strerror)) from error
    return status.st_size, status.st_mtime_ns


@lru_cache(maxsize=64)
def _packets(path: Path, size: int, mtime_ns: int) -> tuple[IntArray, int]:
    """(N,) times of all frames in ticks, in the order of the file, and the frames that the header counts, 0: it says
    nothing. Nothing is decoded. Kept, since many clips can lie in one file."""
    with _opened(path) as container:
        stream = container.streams.video[0]
        stamps = [(packet.pts, packet.dts) for packet in container.demux(stream) if packet.size]
        said = int(stream.frames)
    if not stamps:
        raise UnreadablePicture("it holds no frames")
    kind = 0 if all(pts is not None for pts, _ in stamps) else 1
    times = [stamp[kind] for stamp in stamps]
    return np.array([place if t is None else t for place, t in enumerate(times)], dtype=np.int64), said


@lru_cache(maxsize=64)
def _tick(path: Path, size: int, mtime_ns: int) -> float:
    """Seconds of a tick of the file's clock."""
    with _opened(path) as container:
        return float(container.streams.video[0].time_base or 1)
