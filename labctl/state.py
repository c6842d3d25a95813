"""Where labctl keeps what outlives a run: rig locks, the state of simulated lamps, the catalogue, decoded pictures."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from labctl.errors import BadInput


def state_folder() -> Path:
    """The folder named by LABCTL_STATE, else the user's state folder. Created when absent."""
    return _made("state", "LABCTL_STATE")


def cache_folder(part: str) -> Path:
    """`part` in the folder named by LABCTL_CACHE, else in the user's cache folder. Created when absent.

    What lies in it can be removed at any time while no run reads it; it is made anew.
    """
    return _made("cache", "LABCTL_CACHE", part)


def _made(what: Literal["state", "cache"], variable: str, part: str = "") -> Path:
    chosen = os.environ.get(variable)
    if chosen:
        folder = Path(chosen).expanduser() / part
    else:
        import platformdirs

        users = platformdirs.user_state_path if what == "state" else platformdirs.user_cache_path
        folder = users("labctl") / part
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        text = f"{what} folder {folder} cannot be made: {error.strerror or error}; name another one in {variable}"
        raise BadInput(text) from error
    return folder
