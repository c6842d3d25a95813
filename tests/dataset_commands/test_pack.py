"""`labctl dataset pack`: a training copy of a set, made as asked for, with a word about what it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from labctl.frames.pack import Pack
from tests.bad_input.lab import labctl
from tests.bench_commands.conftest import last_json
from tests.labctl.frames.sets import header, record, write_set


def test_pack_makes_a_copy_of_what_is_asked_for(tmp_path: Path) -> None:
    records = [record(n, kind="dark" if n < 2 else "scene", sample_id=None if n < 2 else n // 2) for n in range(8)]
    store = write_set(tmp_path / "run" / "frames", 8, records=records, head=header(8, privacy="after-readout"))
    said = labctl("dataset", "pack", str(tmp_path / "run"), "--dark", "--average", "--json")
    assert said.code == 0, said.err
    assert "3 samples of float32" in said.err
    assert "identify people" in said.err
    about = last_json(said.out)
    assert about["treatment"] == {
        "dark": True, "background": False, "closed": False, "flat": None, "rungs": "merge", "average": True,
    }  # fmt: skip
    raw = store.read(range(8)).astype(np.float64)
    pack = Pack.open(about["folder"], of=store.folder)
    np.testing.assert_allclose(pack.read([1])[0], raw[4:6].mean(0) - raw[:2].mean(0), atol=1e-3)


def test_what_cannot_be_packed_is_bad_input(tmp_path: Path) -> None:
    write_set(tmp_path / "set", 3)
    said = labctl("dataset", "pack", str(tmp_path / "set"), "--dark")
    assert said.code == 2
    assert "has no dark frame at 0.002 s" in said.err
    assert not (tmp_path / "set" / "pack").exists()
