"""labctl: hardware-in-the-loop design of privacy-preserving cameras.

`open_rig`, `run_protocol` and `load_run` are the notebook's way in; everything else is reached through its module.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Exposure", "load_run", "open_rig", "run_protocol", "still_plan"]

if TYPE_CHECKING:
    from labctl.api import load_run, open_rig, run_protocol
    from labctl.exposure import Exposure, still_plan


def __getattr__(name: str) -> Any:
    if name in __all__:
        from labctl import api, exposure

        return getattr(exposure if hasattr(exposure, name) else api, name)
    raise AttributeError(f"module 'labctl' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
