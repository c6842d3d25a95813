"""Print every mistake of the tables and what the user is told: `python -m tests.bad_input`."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from pathlib import Path
from unittest import mock

from tests.bad_input.clip_cases import CLIP_CASES
from tests.bad_input.command_cases import COMMAND_CASES
from tests.bad_input.data_cases import DATA_CASES
from tests.bad_input.lab import RUN, labctl
from tests.bad_input.protocol_cases import PROTOCOL_CASES
from tests.bad_input.rig_cases import RIG_CASES

with tempfile.TemporaryDirectory() as top:
    for case in (*PROTOCOL_CASES, *DATA_CASES, *CLIP_CASES, *RIG_CASES, *COMMAND_CASES):
        folder = Path(top) / case.name.replace(" ", "-").replace("/", "-")
        folder.mkdir()
        case.write(folder)
        with contextlib.chdir(folder), mock.patch.dict(os.environ, {"LABCTL_STATE": str(folder / "state")}):
            answer = labctl(*case.args)
        given = [f"p.yaml: {case.protocol}" if case.protocol else "", f"bench.yaml: {case.rig}" if case.rig else ""]
        given += ["labctl " + " ".join(case.args)] if case.args != RUN else []
        said = answer.err.strip().replace(str(folder), ".")
        sys.stdout.write(f"* {case.name} ({answer.code})\n  {' | '.join(filter(None, given))}\n  → {said}\n")
