"""Many reads from one source: one after the other from a folder, many at a time from an address."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from labctl.frames.source import FolderSource, Source

REQUESTS = 16
"""Reads that are under way at a time at an address: each is a request, which takes its time to answer."""


def fetch_all(fetch: Callable[[int], None], numbers: Iterable[int], source: Source) -> None:
    """Call `fetch` with every number; it reads from `source`. Raises what the first failed call raised."""
    if isinstance(source, FolderSource):
        for number in numbers:
            fetch(number)
        return
    with ThreadPoolExecutor(REQUESTS) as pool:
        for _ in pool.map(fetch, numbers):
            pass
