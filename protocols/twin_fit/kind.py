"""The calibration `twin` among the kinds that are installed: how it is called and drawn. `fit_twin` makes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from labctl.frozen import Frozen
from protocols.twin_fit.fitted import KIND
from protocols.twin_fit.record import VERSION

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from labctl.calibration.record import Calibration


class FittedTwinKind(Frozen):
    """See `protocols.calibrate.kind.Kind`; measured by the step `fit_twin`, which has its settings."""

    name: ClassVar[str] = KIND
    title: ClassVar[str] = "Fitted twin"
    version: ClassVar[int] = VERSION

    def draw(self, calibration: Calibration) -> Figure:
        """The one-page plot."""
        from protocols.twin_fit.page import twin_page

        return twin_page(calibration)


KINDS: Mapping[str, Any] = {KIND: FittedTwinKind}
