"""Where the calibrations of a rig are kept between runs, and the set of them that one run uses."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Literal

from labctl.calibration.record import Calibration, CalibrationRecord
from labctl.errors import BadInput, LabctlError
from labctl.state import state_folder

log = logging.getLogger(__name__)

SUFFIX = ".npz"

Answer = Literal["take", "pass", "stop"]
"""To the record of a calibration: this one; an older one may do; none that is older will."""


class Shelf:
    """All calibrations ever made of one rig, by kind; none is overwritten."""

    def __init__(self, rig_name: str, folder: Path | None = None) -> None:
        self.folder = folder or state_folder() / "rigs" / rig_name / "calibrations"

    def put(self, calibration: Calibration) -> Path:
        """Keep it; returns its file, KIND/TIME-ID.npz. Names in order are times in order, to the microsecond."""
        seconds, micros = divmod(round(1e6 * calibration.record.made), 1_000_000)
        stamp = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(seconds))}.{micros:06d}"
        return calibration.save(self.folder / calibration.kind / f"{stamp}-{calibration.id}{SUFFIX}")

    def newest(self, kind: str) -> Calibration | None:
        """The newest one of `kind` that can be read; None when there is none. A damaged one is said and passed over."""
        for path in reversed(self.files(kind)):
            try:
                return Calibration.load(path)
            except LabctlError as error:
                log.warning("%s", error)
        return None

    def newest_that(self, kind: str, tell: Callable[[CalibrationRecord], Answer]) -> Calibration | None:
        """The newest one of `kind` that `tell` takes; None when it stops before, or when there is none.

        tell: is given the record of one after the other, newest first. Damaged ones are said and passed over.
        """
        for path in reversed(self.files(kind)):
            try:
                answer = tell(Calibration.record_in(path))
                if answer == "take":
                    return Calibration.load(path)
            except LabctlError as error:
                log.warning("%s", error)
                continue
            if answer == "stop":
                return None
        return None

    def files(self, kind: str) -> list[Path]:
        """Files of `kind`, oldest first."""
        return sorted((self.folder / kind).glob(f"*{SUFFIX}"))

    def kinds(self) -> list[str]:
        """Kinds of which there is at least one."""
        return sorted(path.name for path in self.folder.iterdir() if path.is_dir()) if self.folder.is_dir() else []


class CalibrationSet(Mapping[str, Calibration]):
    """The calibrations that a run uses, by kind: a folder with one file KIND.npz for each."""

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise BadInput(f"there are no calibrations in '{folder}'; run a `calibrate` step first")
        self.folder = folder
        self._files = {path.stem: path for path in sorted(folder.glob(f"*{SUFFIX}"))}
        self._read: dict[str, Calibration] = {}

    def __getitem__(self, kind: str) -> Calibration:
        if kind not in self._read:
            if kind not in self._files:
                raise KeyError(kind)
            self._read[kind] = Calibration.load(self._files[kind])
        return self._read[kind]

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def need(self, kind: str, what_for: str) -> Calibration:
        """The calibration `kind`. Raises BadInput that says what it is needed for and how to get it."""
        if kind not in self:
            there = ", ".join(self) or "none"
            raise BadInput(
                f"{what_for} needs the calibration `{kind}`, there {'are' if len(self) != 1 else 'is'} {there}; "
                f"add `{kind}` to the kinds of the `calibrate` step"
            )
        return self[kind]

    def ids(self) -> dict[str, str]:
        """Ids by kind, as `FrameRecord.calibrations` holds them."""
        return {kind: self[kind].id for kind in self}
