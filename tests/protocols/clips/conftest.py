from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("av")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Clips that are kept lie in the folder of the test."""
    monkeypatch.setenv("LABCTL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"
