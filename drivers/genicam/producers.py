"""Which GenTL producers (.cti files) there are, by a rig file's own word or by the standard environment variable."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from string import Template

from labctl.errors import HardwareError

SEARCH_PATH = "GENICAM_GENTL64_PATH"
"""Folders with producers, separated as in PATH [GenTL 1.5, section 3.2.1]."""


def find_producers(named: str | None, environment: Mapping[str, str]) -> list[Path]:
    """The .cti files in `named` (a file or a folder; `$NAME` is filled in), else in the folders of SEARCH_PATH.

    environment: variables beside our own. Raises HardwareError when there is none, naming where it was looked for.
    """
    variables = {**os.environ, **environment}
    if named is not None:
        path = Path(filled(named, variables)).expanduser()
        if not path.exists():
            raise HardwareError(f"the producer {path} is not there; install it, or correct `producer` in the rig file")
        found = [path] if path.is_file() else sorted(path.glob("*.cti"))
        if not found:
            raise HardwareError(f"the folder {path} holds no producer (.cti); install one, or correct `producer`")
        return found
    folders = [Path(folder) for folder in variables.get(SEARCH_PATH, "").split(os.pathsep) if folder]
    found = [file for folder in folders for file in sorted(folder.glob("*.cti"))]
    if not found:
        where = f"in {', '.join(map(str, folders))}" if folders else f"since {SEARCH_PATH} is not set"
        raise HardwareError(
            f"no GenTL producer (.cti) was found {where}; install the camera maker's, then name it as `producer` in "
            f"the rig file or its folder in {SEARCH_PATH}"
        )
    return found


def filled(text: str, variables: Mapping[str, str]) -> str:
    """`text` with every `$NAME` filled in. Raises HardwareError for a variable that is not set."""
    try:
        return Template(text).substitute(variables)
    except KeyError as missing:
        name = missing.args[0]
        raise HardwareError(f"`{text}` in the rig file needs the variable {name}, which is not set; set it") from None
    except ValueError as error:
        raise HardwareError(f"`{text}` in the rig file cannot be filled in ({error}); write $$ for a $") from None
