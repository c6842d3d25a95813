"""`export`: a mask as files for the print shop, read back and compared cell for cell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from annotated_types import Gt, Lt

from labctl.errors import BadInput
from labctl.references import OutputKind, Reference
from labctl.steps import Estimate, Source, Step, StepContext, StepResult, StepSetting
from protocols.fit import check_panel
from protocols.mask_export.export import MANIFEST_FILE, MaskFiles, export_mask

BYTES_PER_CELL = 100
"""Of GDSII and SVG together, when no two cells can be joined."""


class Export(MaskFiles, Step):
    """Writes `mask.gds`, `mask.svg`, `mask-panel.png` as asked, and `mask-export.json` with what was read back."""

    where: ClassVar[Literal["host", "child"]] = "child"
    outputs: ClassVar[Mapping[str, str]] = {"export": "mask-export"}
    uses: ClassVar[frozenset[Source]] = frozenset({"twin"})

    type: Literal["export"]

    mask: Annotated[Reference, OutputKind("mask")]
    """What to export."""

    pitch_m: Annotated[float, Gt(0), Lt(1)] | None = None
    """Side of a printed cell; None takes the mask pitch of the rig."""

    def check(self, setting: StepSetting) -> None:
        """Pitch, size, installed packages and the design must allow it."""
        _, cells = setting.protocol.grids()
        if setting.design is not None:
            check_panel(setting, static=True)
        start = self._start_of_mask(setting, cells)
        try:
            self.check_export(cells, pitch_m=self.pitch_m, rig=setting.rig)
            if start is not None:
                self.check_grey(start)
        except BadInput as error:
            error.at = setting.at(*error.at)
            raise

    def estimate(self, setting: StepSetting) -> Estimate:
        """Compute only."""
        rows, columns = setting.protocol.grids()[1]
        return Estimate(seconds=1, disk_bytes=2**16 + BYTES_PER_CELL * rows * columns)

    def run(self, context: StepContext) -> StepResult:
        """Write, read back, compare."""
        mask = np.load(context.input(self.mask))
        told = export_mask(mask, context.folder, pitch_m=self.pitch_m, rig=context.setting.rig, settings=self)
        metrics = {
            "open_fraction": told["open_fraction"],
            "pitch_m": told.get("pitch_m"),
            "files": len(told["files"]),
            "equal_cells": min(file["read_back"]["equal_cells"] for file in told["files"]),
        }
        return StepResult({"export": context.folder / MANIFEST_FILE}, metrics)

    def _start_of_mask(self, setting: StepSetting, cells: tuple[int, int]) -> npt.NDArray[np.float64] | None:
        """The mask before training: a design whose start is grey ends grey, which is better said before training."""
        if setting.design is None or setting.protocol.steps[self.mask.step].type != "train":
            return None
        design = setting.design_settings().build(cells, int(setting.seed or 0))
        start: npt.NDArray[np.float64] = design.settings()["mask"]
        return start
