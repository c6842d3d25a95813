"""Finding slmPy's class, and telling it from the other package of that name."""

from __future__ import annotations

import importlib
import sys
from typing import Any

from labctl.errors import HardwareError

SLMPY_SOURCE = "pip install git+https://github.com/wavefrontshaping/slmPy"


def display_class(module: str) -> Any:
    """The class `SLMdisplay` of `module`. Raises HardwareError with the command that installs what is missing."""
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if missing == "wx":
            raise HardwareError(
                f"{module} needs wxPython, which is not installed; Windows, macOS: pip install wxPython; Debian, "
                "Ubuntu: apt-get install python3-wxgtk4.0 and then python -m drivers.panels.link_wx"
            ) from error
        if module == missing or module.startswith(f"{missing}."):
            raise HardwareError(f"the module '{module}' is not installed; {_source(module)}") from error
        raise HardwareError(f"{module} needs the module '{missing}', which is not installed; install it") from error
    except Exception as error:
        raise HardwareError(f"importing {module} fails: {type(error).__name__}: {error}; {_source(module)}") from error
    if not hasattr(found, "SLMdisplay"):
        text = f"{module} (from {getattr(found, '__file__', None)}) has no class SLMdisplay"
        if module == "slmpy":
            text += (
                ", so it is not slmPy: the project called 'slmpy' of the Python package index detects communities in "
            )
            text += "graphs; pip uninstall slmpy, then " + SLMPY_SOURCE
        else:
            text += "; set `module` to one that has it, such as slmpy or slmcontrol.slm"
        raise HardwareError(text)
    return found.SLMdisplay


def _source(module: str) -> str:
    if module == "slmpy":
        return f"{SLMPY_SOURCE} (the package index has another project of this name)"
    if module.startswith("slmcontrol"):
        return "pip install slmcontrol==0.0.3"
    return "install it, or set `module` to slmpy or slmcontrol.slm"


if __name__ == "__main__":  # `labctl doctor` asks this in a process of its own
    try:
        display_class("slmpy")
    except HardwareError as error:
        sys.exit(str(error))
