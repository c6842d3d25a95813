"""Building the producer: once, by several at a time, and with a clear word when there is no compiler."""

from __future__ import annotations

import multiprocessing
import os
import re
import subprocess
from pathlib import Path

import pytest

from labctl.errors import HardwareError
from sim.virtual_lab.producer import build
from sim.virtual_lab.producer.build import build_producer


def test_the_second_build_is_the_first_one(producer):
    before = producer.stat().st_mtime_ns
    assert build_producer(producer.parent.parent) == producer
    assert producer.stat().st_mtime_ns == before


def test_the_producer_lies_alone_in_its_folder(producer):
    assert [path.name for path in producer.parent.iterdir()] == ["labctl.cti"]
    assert [path.name for path in producer.parent.parent.iterdir()] == [producer.parent.name]


def test_two_processes_may_build_at_once(tmp_path):
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        first, second = pool.map(build_producer, [tmp_path, tmp_path])
    assert first == second
    assert [path.name for path in tmp_path.iterdir()] == [first.parent.name]


def test_the_whole_of_gentl_1_5_is_exported_and_nothing_else(producer):
    header = (Path(build.__file__).parent / "source" / "gentl.h").read_text()
    promised = set(re.findall(r"^GC_API GC_ERROR (\w+)\(", header, re.MULTILINE))
    listed = subprocess.run(["nm", "-D", "--defined-only", producer], capture_output=True, text=True, check=True).stdout
    assert {line.split()[-1] for line in listed.splitlines()} == promised
    assert len(promised) == 57


def test_a_missing_compiler_is_named_with_what_to_install(tmp_path, monkeypatch):
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HardwareError, match=r"C compiler.*apt install gcc"):
        build_producer(tmp_path)


def test_a_compiler_that_refuses_is_quoted(tmp_path, monkeypatch):
    compiler = tmp_path / "cc-that-fails"
    compiler.write_text("#!/bin/sh\necho 'no such option' >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    with pytest.raises(HardwareError, match="no such option"):
        build_producer(tmp_path / "kept")
    assert not list(Path(os.fspath(tmp_path / "kept")).rglob("*.cti"))
