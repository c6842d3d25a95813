"""Features of a camera that only this driver sets, so that a frame is exposed as its labels say."""

from __future__ import annotations

from collections.abc import Mapping

from labctl.errors import BadInput

AUTOMATICS: Mapping[str, bool | str] = {
    "ExposureAuto": "Off", "GainAuto": "Off", "BlackLevelAuto": "Off", "BalanceWhiteAuto": "Off",
    "GammaEnable": False, "LUTEnable": False,
}  # fmt: skip
"""What would change a frame behind the back of the settings, and its off position."""

_EXPOSURE, _REGION, _RIG_FILE, _DRIVER = (
    "the exposure", "the region of the exposure", "the camera's entry in the rig file", "the driver"
)  # fmt: skip
_SET_BY: Mapping[str, str] = {
    "PixelFormat": _RIG_FILE, "TriggerMode": _RIG_FILE, "TriggerSource": _RIG_FILE, "TriggerSelector": _RIG_FILE,
    "ExposureTime": _EXPOSURE, "ExposureTimeAbs": _EXPOSURE, "ExposureTimeRaw": _EXPOSURE,
    "Gain": _EXPOSURE, "GainRaw": _EXPOSURE,
    "Width": _REGION, "Height": _REGION, "OffsetX": _REGION, "OffsetY": _REGION,
    "AcquisitionMode": _DRIVER,
}  # fmt: skip


def check_free(name: str) -> None:
    """Raise BadInput when the feature `name` is one that only this driver sets, saying by what and why."""
    if name in AUTOMATICS:
        raise BadInput(
            f"the feature {name} is kept off by the driver, for it changes frames behind the back of the exposure; "
            "leave it out"
        )
    if name.startswith("Chunk"):
        raise BadInput(
            f"the feature {name} is set by the driver, which reads from chunks how a frame was exposed; leave it out"
        )
    if name in _SET_BY:
        raise BadInput(f"the feature {name} is set by {_SET_BY[name]}, not by itself; leave it out")
