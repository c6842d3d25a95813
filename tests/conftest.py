"""Fixtures for all tests: no test touches the user's own state, and `data` tests know where the data is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

REQUIRED = frozenset(os.environ.get("LABCTL_REQUIRE", "").split())
"""Markers of tests that must not be skipped here: a skip is a failure. CI requires `virtual` and `browser`."""

CONFIGS = Path(__file__).parent.parent / "configs"


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Turn the skip of a test that is required here into a failure."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    required = sorted(mark.name for mark in item.iter_markers() if mark.name in REQUIRED)
    if report.skipped and required and not hasattr(report, "wasxfail"):
        why = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome, report.longrepr = "failed", f"required here ({', '.join(required)}), but {why}"


@pytest.fixture(scope="session", autouse=True)
def state_folder_of_this_worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Fixtures of whole modules open rigs too: each test process has locks of its own, and never those of the user."""
    with pytest.MonkeyPatch.context() as changed:
        changed.setenv("LABCTL_STATE", str(tmp_path_factory.mktemp("state")))
        changed.setenv("LABCTL_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def own_state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Rig locks, lamps and the catalogue of a test live in its own folder."""
    folder = tmp_path / "state"
    monkeypatch.setenv("LABCTL_STATE", str(folder))
    monkeypatch.setenv("LABCTL_CACHE", str(tmp_path / "cache"))
    return folder


@pytest.fixture
def data_folder() -> Path:
    """The folder that LABCTL_DATA names; tests that want it are marked `data` and skipped without."""
    named = os.environ.get("LABCTL_DATA")
    if not named or not Path(named).is_dir():
        pytest.skip("LABCTL_DATA names no folder")
    return Path(named)


@pytest.fixture
def configs() -> Path:
    """The shipped rigs and protocols."""
    return CONFIGS
