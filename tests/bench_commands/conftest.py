"""A bench on which commands are tried: a folder, rigs that differ by a line, and a lab's own odd devices."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from labctl import discovery, plugins
from tests.bad_input.lab import CONFIGS
from tests.bench_commands import oddlab


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which commands run."""
    folder = tmp_path / "bench"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("LABCTL_BENCH_RIG", raising=False)
    return folder


@pytest.fixture
def rig(bench: Path) -> Callable[..., str]:
    """Writes a rig file: the simulated bench with some lines of its own."""

    def write(lines: str = "", *, base: str = "sim", name: str = "mine") -> str:
        (bench / f"{name}.yaml").write_text(f"extends: {CONFIGS}/rigs/{base}.yaml\nname: {name}\n{lines}\n")
        return f"{name}.yaml"

    return write


@pytest.fixture
def odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The package `oddlab` is installed."""
    info = tmp_path / "site" / "oddlab-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: oddlab\nVersion: 1\n")
    lines = [
        f"[{group}]\n" + "".join(f"{name} = {oddlab.__name__}:{what}\n" for name, what in entries.items())
        for group, entries in oddlab.ENTRY_POINTS.items()
    ]
    (info / "entry_points.txt").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(info.parent)
    _forget()
    yield
    _forget()


@pytest.fixture
def no_shipped_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shipped drivers are not asked what they find or check: it depends on the computer, and they have own tests."""
    real = plugins.names
    groups = (discovery.FINDERS, discovery.CHECKS, discovery.FLASHERS)
    monkeypatch.setattr(
        plugins, "names", lambda group: [n for n in real(group) if group not in groups or n.startswith("odd.")]
    )
    monkeypatch.setattr(discovery, "LIMIT_S", 1.0)


@pytest.fixture
def lamp_power(own_state_folder: Path) -> Callable[[str], float | None]:
    """What the simulated lamp of a rig is set to, as it would shine after the computer died; None: never touched."""

    def read(rig_name: str) -> float | None:
        files = list(own_state_folder.glob(f"rigs/{rig_name}/*lamp*.json"))
        return float(json.loads(files[0].read_text())["power"]) if files else None

    return read


def last_json(out: str) -> dict[str, Any]:
    """The JSON object in the last line of stdout."""
    told: dict[str, Any] = json.loads(out.strip().splitlines()[-1])
    return told


def _forget() -> None:
    plugins._found.cache_clear()
    plugins._loaded.cache_clear()
