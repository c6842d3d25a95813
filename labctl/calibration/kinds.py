"""The kinds of calibration that are installed: what they are called, which version they are of, how they are drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from labctl import plugins
from labctl.errors import BadInput

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from labctl.calibration.record import Calibration, CalibrationRecord

GROUP = "labctl.calibrations"


def installed_kinds() -> dict[str, Any]:
    """Every kind by name, in the order in which they are measured: settings models with `title`, `version`, `draw`."""
    kinds: dict[str, Any] = {}
    for name in plugins.names(GROUP):
        kinds |= plugins.load(GROUP, name)
    return kinds


def title_of(kind: str) -> str:
    """As a heading; the name itself where nothing that is installed knows the kind."""
    known = installed_kinds().get(kind)
    return kind if known is None else str(known.title)


def draw_page(calibration: Calibration) -> Figure:
    """The one-page plot of a calibration. Raises BadInput when nothing that is installed knows its kind."""
    kind = installed_kinds().get(calibration.kind)
    if kind is None:
        known = ", ".join(installed_kinds()) or "none"
        raise BadInput(
            f"nothing that is installed draws calibrations of kind `{calibration.kind}`; known are {known}; "
            "install the package that measured it"
        )
    figure: Figure = _as_made(kind, calibration.record).draw(calibration)
    return figure


def _as_made(kind: Any, record: CalibrationRecord) -> Any:
    """With the settings that it was made with; today's defaults where these are of another version."""
    try:
        return kind.model_validate(record.settings)
    except ValidationError:
        return kind()
