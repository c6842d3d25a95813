"""SBU Kinect interactions: 8 actions between two people, 13 pairs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge

from protocols.data.clips.known_sets import facts, matches
from protocols.data.clips.recordings import Recording, picture_folders_below, videos_below
from protocols.data.clips.seeded import SeededVideoSource
from protocols.data.clips.video_file import Short


class Sbu(SeededVideoSource):
    """SBU as it is distributed, s01s02/03/001 with its pictures rgb_*.png, or a video s01s02/03/001.avi each.

    The actor is the pair, both orders as one: 13 classes, as BDQ merges them. Split by seed; BDQ's own lists (188 and
    94 clips, the same pairs in both) are in its repository: make a `split_list` of them. Its clips have 10 to 46
    frames, so by default every frame is taken and short ones are gone through again, as BDQ does. Which number is
    which action is as readers of the set have it; the set's own table was not at hand. [Yun et al. 2012]
    """

    type: Literal["sbu"] = "sbu"

    stride: Annotated[int, Ge(1)] = 1
    short: Short = "repeat"

    def recordings(self, root: Path) -> Sequence[Recording]:
        """See `VideoSource.recordings`."""
        known = facts("sbu")
        files = sorted([*picture_folders_below(root), *videos_below(root)])
        pair_of = {order: "/".join(orders) for orders in known["pairs"] for order in orders}
        orders = "|".join(f"s0?{order[0]}s0?{order[1]}" for order in pair_of)
        rule = "s01s02/03/001 is expected, of the 13 pairs and the actions 01 to 08"
        found = matches(rf"({orders})/(0[1-8])/\d\d\d(?:\.\w+)?", files, what=self._what, rule=rule)
        clips = [
            Recording(file, file, known["actions"][match[2]], pair_of[match[1].replace("s", "").replace("0", "")])
            for file, match in zip(files, found, strict=True)
        ]
        return self.split(clips) if clips else clips
