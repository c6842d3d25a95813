"""Weizmann actions: 10 actions by 9 people."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge

from protocols.data.clips.known_sets import facts, matches
from protocols.data.clips.recordings import Recording, videos_below
from protocols.data.clips.seeded import SeededVideoSource


class Weizmann(SeededVideoSource):
    """Weizmann as it is distributed: `daria_walk.avi`, `lena_walk1.avi` and so on, anywhere below the folder.

    93 videos of 180 x 144 px; every actor does every action once, lena three of them twice. It has no official split:
    the usual leave-one-person-out names nobody. By seed, each actor's ten actions are dealt to train, val and test so
    that every action is in each part. [Blank et al. 2005]
    """

    type: Literal["weizmann"] = "weizmann"

    stride: Annotated[int, Ge(1)] = 1
    """Every frame: the shortest videos have 28."""

    def recordings(self, root: Path) -> Sequence[Recording]:
        """See `VideoSource.recordings`."""
        known = facts("weizmann")
        files = videos_below(root)
        pattern = rf"({'|'.join(known['actors'])})_({'|'.join(known['actions'])})[12]?\.\w+"
        rule = "names like daria_walk.avi are expected, of the 9 people and the 10 actions"
        found = matches(pattern, files, what=self._what, rule=rule)
        clips = [Recording(file, file, match[2], match[1]) for file, match in zip(files, found, strict=True)]
        return self.split(clips) if clips else clips
