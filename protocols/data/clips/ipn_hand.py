"""IPN Hand: 13 gestures, cut out of long videos by the lists of the set; the private label is the gender."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Lt

from labctl.errors import BadInput
from labctl.frames.splitting import rank
from labctl.suggest import one_of
from protocols.data.clips.known_sets import facts
from protocols.data.clips.recordings import Recording, picture_folders_below, videos_below
from protocols.data.clips.two_labels import Actors
from protocols.data.clips.video_file import Short
from protocols.data.clips.video_source import VideoSource
from protocols.images import expanded
from protocols.splits import Split, some_of

LISTS = {"Annot_TrainList.txt": Split.TRAIN, "Annot_TestList.txt": Split.TEST}


class IpnHand(VideoSource):
    """IPN Hand as it is distributed: videos `1CM1_1_R_#217.avi`, or folders of pictures of that name, anywhere below
    the folder, and the folder `annotations` with `Annot_TrainList.txt` and `Annot_TestList.txt` (lines
    `VIDEO,LABEL,ID,FIRST,LAST,FRAMES`, frames counted from 1).

    Their split is the official one: other people in test than in train, 13 gestures without `D0X` (no gesture). Which
    split BDQ used is not published. The gender comes from the metadata table of the set, whose columns were not at hand
    when this was written: name them. [Benitez-Garcia et al. 2020]
    """

    type: Literal["ipn_hand"] = "ipn_hand"

    annotations: Path | None = None
    """Folder of the lists; None is `annotations` in the folder of the videos."""

    metadata: Path | None = None
    """Table with commas and a header line that says the gender of each video; None: `metadata.csv` beside the lists."""

    video_column: str | None = None
    """Its column with the name of the video; None is the first."""

    gender_column: str = "gender"

    val_share: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Share of the training people that is set aside as val, by `split_seed`; the official lists have no val."""

    split_seed: Annotated[int, Ge(0)] = 0

    short: Short = "repeat"

    @property
    def keep(self) -> Actors:
        """Both genders are in every part."""
        return "shared"

    def recordings(self, root: Path) -> Sequence[Recording]:
        """See `VideoSource.recordings`."""
        known = facts("ipn_hand")
        folder = root / "annotations" if self.annotations is None else expanded(self.annotations)
        gender = self._genders(folder / "metadata.csv" if self.metadata is None else expanded(self.metadata))
        file_of = {_bare(file): file for file in [*picture_folders_below(root), *videos_below(root)]}
        listed = [(split, line) for name, split in LISTS.items() for line in _lines(folder / name)]
        wanted = [(split, line) for split, line in listed if line[1] != known["no_gesture"]]
        strange = sorted({line[1] for _, line in wanted if line[1] not in known["gestures"]})
        if strange:
            raise BadInput(
                f"{self._what}: the lists name gestures of no class, {some_of(strange)}; B0A to G11 are known"
            )
        for have, lack, where in ((file_of, "video", "below the folder"), (gender, "gender", "in the metadata table")):
            missing = sorted({line[0] for _, line in wanted if line[0] not in have})
            if missing:
                raise BadInput(f"{self._what}: no {lack} of {some_of(missing)} is {where}; add it, or cut the lists")
        val = self._val_people([line[0] for split, line in wanted if split == Split.TRAIN])
        return [
            Recording(
                name=f"{line[0]}[{line[3]}-{line[4]}]",
                file=file_of[line[0]],
                action=known["gestures"][line[1]],
                actor=gender[line[0]],
                split=Split.VAL if split == Split.TRAIN and _person(line[0]) in val else split,
                first=int(line[3]) - 1,
                last=int(line[4]) - 1,
            )
            for split, line in wanted
        ]

    def _val_people(self, videos: Sequence[str]) -> set[str]:
        people = sorted({_person(video) for video in videos}, key=lambda name: rank(self.split_seed, name))
        return set(people[: round(self.val_share * len(people))])

    def _genders(self, path: Path) -> Mapping[str, str]:
        rows = _rows(path, "metadata table")
        header = [name.strip() for name in rows[0]] if rows else []
        columns = []
        for key, wanted in (("video_column", self.video_column), ("gender_column", self.gender_column)):
            name = header[0] if wanted is None and header else str(wanted)
            if name.lower() not in [known.lower() for known in header]:
                raise BadInput(f"metadata table '{path}' has no column '{name}'; set `{key}`: {one_of(name, header)}")
            columns.append([known.lower() for known in header].index(name.lower()))
        filled = [row for row in rows[1:] if len(row) > max(columns)]
        return {_bare(row[columns[0]].strip()): row[columns[1]].strip().lower() for row in filled}


def _person(video: str) -> str:
    """A person made four videos: 1CM1_1_R_#217 is of 1CM1_1."""
    return "_".join(video.split("_")[:2])


def _bare(file: str) -> str:
    name = file.rpartition("/")[2]
    return name[: name.rfind(".")] if "." in name else name


def _lines(path: Path) -> list[list[str]]:
    lines = [[part.strip() for part in row] for row in _rows(path, "list of gestures")]
    for number, line in enumerate(lines, 1):
        good = len(line) >= 5 and line[3].isdigit() and line[4].isdigit() and 1 <= int(line[3]) <= int(line[4])
        if not good and not (number == 1 and "start" in ",".join(line)):
            raise BadInput(
                f"list '{path}' line {number}: '{','.join(line)}' is no VIDEO,LABEL,ID,FIRST,LAST; correct it"
            )
    return [line for line in lines if line[3].isdigit()]


def _rows(path: Path, what: str) -> list[list[str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return [row for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise BadInput(f"{what} '{path}' cannot be read: {why}; give the one of the set") from error
