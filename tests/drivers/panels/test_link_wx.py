"""Debian's wxPython in a virtual environment."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import pytest

from drivers.panels.link_wx import link_wx
from labctl.errors import BadInput


@pytest.fixture
def debian(tmp_path: Path) -> Path:
    folder = tmp_path / "dist-packages"
    (folder / "wx").mkdir(parents=True)
    (folder / "wx" / f"_core{sysconfig.get_config_var('EXT_SUFFIX')}").touch()
    return folder


@pytest.fixture
def site_packages(tmp_path: Path) -> Path:
    folder = tmp_path / "site-packages"
    folder.mkdir()
    return folder


def test_only_wx_is_linked_and_twice_is_fine(debian: Path, site_packages: Path) -> None:
    assert link_wx(debian, site_packages).startswith("linked")
    assert (site_packages / "wx").resolve() == debian / "wx"
    assert [path.name for path in site_packages.iterdir()] == ["wx"]
    assert "already" in link_wx(debian, site_packages)


def test_without_debians_package_it_says_which(tmp_path: Path, site_packages: Path) -> None:
    with pytest.raises(BadInput, match="apt-get install python3-wxgtk4"):
        link_wx(tmp_path, site_packages)


def test_wx_for_another_python_is_refused(debian: Path, site_packages: Path) -> None:
    for core in (debian / "wx").iterdir():
        core.rename(debian / "wx" / "_core.cpython-27-x86_64-linux-gnu.so")
    with pytest.raises(BadInput, match=r"made for another Python \(_core\.cpython-27"):
        link_wx(debian, site_packages)
    assert list(site_packages.iterdir()) == []


def test_another_wx_is_not_replaced(debian: Path, site_packages: Path) -> None:
    (site_packages / "wx").mkdir()
    with pytest.raises(BadInput, match="there is another"):
        link_wx(debian, site_packages)
