"""KTH actions: 6 actions by 25 people in 4 scenarios."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from labctl.errors import BadInput
from protocols.data.clips.known_sets import facts, matches
from protocols.data.clips.recordings import Recording, videos_below
from protocols.data.clips.seeded import SeededVideoSource
from protocols.data.clips.two_labels import Actors
from protocols.images import expanded
from protocols.splits import Split, some_of


class Kth(SeededVideoSource):
    """KTH as it is distributed: `person01_boxing_d1_uncomp.avi` and so on, anywhere below the folder. 599 videos of 160
    x 120 px at 25 per second; person13_handclapping_d3 does not exist.

    Which split BDQ used is not published; it must be clip-wise, since who it is is the private label, and the log of a
    fork speaks of about half of the videos in test. `clips` here is by seed. [Schuldt, Laptev and Caputo 2004]
    """

    type: Literal["kth"] = "kth"

    split_by: Literal["clips", "scenarios", "persons"] = "clips"
    """`clips`: whole videos by `split_seed` and `fractions`, or by `split_list`. `scenarios`: train outdoors (d1) and
    in other clothes (d3), val with zoom (d2), test indoors (d4): a choice of ours, harder than `clips`. `persons`: 8, 8
    and 9 people as Schuldt et al. publish, for actions; nobody can be named then, and it counts as `actors: apart`."""

    sequences: Path | None = None
    """The file `00sequences.txt` of the set: cuts each video into its about four sequences, which stay in one part of
    the split. Without it, a clip is the window of the whole video."""

    @property
    def keep(self) -> Actors:
        """`apart` for `split_by: persons`."""
        return "apart" if self.split_by == "persons" else self.actors

    def recordings(self, root: Path) -> Sequence[Recording]:
        """See `VideoSource.recordings`."""
        known = facts("kth")
        files = videos_below(root)
        pattern = rf"person(\d\d)_({'|'.join(known['actions'])})_d([1-4])(?:_uncomp)?\.\w+"
        rule = "names like person01_boxing_d1_uncomp.avi are expected"
        found = matches(pattern, files, what=self._what, rule=rule)
        stray = [file for file, match in zip(files, found, strict=True) if not 1 <= int(match[1]) <= known["actors"]]
        if stray:
            raise BadInput(f"{self._what}: {some_of(stray)} are of no actor; 01..25 are known; rename or remove these")
        whole = [Recording(f, f, m[2], f"person{m[1]}") for f, m in zip(files, found, strict=True)]
        if self.split_by != "clips":
            if self.split_list is not None:
                raise BadInput(f"{self._what}: split_by: {self.split_by} and split_list are both set; set one")
            group = {"persons": 1, "scenarios": 3}[self.split_by]
            parts = {number: Split.of(part) for part, of in known[self.split_by].items() for number in of}
            whole = [replace(r, split=parts[int(m[group])]) for r, m in zip(whole, found, strict=True)]
        elif whole:
            whole = self.split(whole)
        return whole if self.sequences is None else self._cut(whole, expanded(self.sequences))

    def _cut(self, whole: Sequence[Recording], path: Path) -> list[Recording]:
        try:
            text = path.read_text(encoding="latin-1")
        except OSError as error:
            raise BadInput(
                f"list of sequences '{path}' cannot be read: {error.strerror}; give 00sequences.txt"
            ) from error
        spans = {
            line.split()[0]: [(int(a), int(b)) for a, b in re.findall(r"(\d+)\s*-\s*(\d+)", line.split(None, 1)[1])]
            for line in text.splitlines()
            if re.match(r"\s*person\d\d_\w+_d\d\s", line)
        }
        clips = []
        for recording in whole:
            video = re.sub(r"(_uncomp)?\.\w+$", "", recording.file.rpartition("/")[2])
            if not spans.get(video):
                raise BadInput(f"list of sequences '{path}' has no frames of '{video}'; complete it, or leave it out")
            clips += [
                replace(recording, name=f"{recording.file}[{first}-{last}]", first=first - 1, last=last - 1)
                for first, last in spans[video]
            ]
        return clips
