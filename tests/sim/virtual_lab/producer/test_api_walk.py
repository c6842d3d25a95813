"""The whole GenTL API under the address and undefined-behaviour sanitizers, wrong handles included."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from labctl.errors import HardwareError
from sim.virtual_lab.producer.build import compile_c, find_compiler, write_sources

WALK = Path(__file__).with_name("walk_api.c")


def test_every_call_with_right_and_wrong_arguments_ends_in_its_own_error_and_touches_no_foreign_memory(tmp_path):
    program = tmp_path / "walk"
    flags = ("-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    try:
        compile_c(find_compiler(), [*write_sources(tmp_path), WALK], program, [*flags, "-Werror"], include=tmp_path)
    except HardwareError as error:
        if "sanitize" in str(error) or "libasan" in str(error):
            pytest.skip("this compiler has no sanitizers")
        raise
    done = subprocess.run([program], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.strip() == "walked", done.stdout + done.stderr
    assert done.returncode == 0, done.stderr
