"""Where labctl keeps what outlives a run: rig locks, the state of simulated lamps, the catalogue."""

from __future__ import annotations

import os
from pathlib import Path

from labctl.errors import BadInput


def state_folder() -> Path:
    """The folder named by LABCTL_STATE, else the user's state folder. Created when absent."""
    chosen = os.environ.get("LABCTL_STATE")
    if chosen:
        folder = Path(chosen).expanduser()
    else:
        from platformdirs import user_state_path

        folder = user_state_path("labctl")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        text = f"state folder {folder} cannot be made: {error.strerror or error}; name another one in LABCTL_STATE"
        raise BadInput(text) from error
    return folder
