"""labctl: hardware-in-the-loop design of privacy-preserving cameras.

`open_rig`, `run_protocol` and `load_run` are the notebook's way in; everything else is reached through its module.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["load_run", "open_rig", "run_protocol"]

if TYPE_CHECKING:
    from labctl.api import load_run, open_rig, run_protocol


def __getattr__(name: str) -> Any:
    if name in __all__:
        from labctl import api

        return getattr(api, name)
    raise AttributeError(f"module 'labctl' has no attribute {name!r}")
