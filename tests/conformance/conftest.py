"""Fixtures of the suite: every backend of `backends.py` in turn, opened; its devices; light that fills its sensor."""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Callable, Generator, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import labctl
from labctl.devices import Camera, Display, Instrument
from labctl.errors import HardwareError
from labctl.exposure import Exposure, FloatArray, Frames, FrameTag, still_plan
from labctl.light_path import FETCH_MARGIN_S, RigDevices
from labctl.rig import Rig
from labctl.rig_file import find_rig, load_rig
from labctl.sync_proof import seen_grid
from tests.conformance.backends import Backend, backends

Lit = Callable[[], Exposure]
Look = Callable[[Exposure], Frames]

_KEPT: dict[str, Rig] = {}
_FILLING: dict[str, Exposure] = {}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run every test that needs a rig on all backends of its module that declare what it needs."""
    if "rig" not in metafunc.fixturenames:
        return
    found = backends(metafunc.module.__name__.rpartition(".")[2])
    if "lit" in metafunc.fixturenames:
        found = [backend for backend in found if backend.sees_displays]
    if "repeatable" in metafunc.fixturenames:
        found = [backend for backend in found if not backend.real_time]
    marks = {True: [pytest.mark.virtual], False: []}
    chosen = [pytest.param(backend, id=backend.name, marks=marks[backend.needs_lab]) for backend in found]
    metafunc.parametrize("rig", chosen, indirect=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of one module and one backend in a row, so that a rig that is slow to open is opened once for them."""
    here = [number for number, item in enumerate(items) if item.path.parent == Path(__file__).parent]
    ordered = sorted((items[number] for number in here), key=lambda item: (item.path.name, _slow_backend(item)))
    for number, item in zip(here, ordered, strict=True):
        items[number] = item


@pytest.fixture(scope="package")
def lab() -> Iterator[None]:
    """One virtual lab for all tests; skipped where it cannot start. Rigs opened meanwhile join it."""
    from sim.virtual_lab.lab import JOIN_VARIABLE, VirtualLab
    from sim.virtual_lab.world import lab_settings

    spec = load_rig(find_rig("virtual"))
    running = VirtualLab(lab_settings(spec.world, spec.twin, spec.roads))
    try:
        running.start()
    except HardwareError as error:
        pytest.skip(str(error))
    before = os.environ.get(JOIN_VARIABLE)
    os.environ[JOIN_VARIABLE] = str(running.folder)
    yield
    os.environ.pop(JOIN_VARIABLE)
    if before is not None:
        os.environ[JOIN_VARIABLE] = before
    running.stop()


@pytest.fixture(scope="package")
def kept_open(request: pytest.FixtureRequest) -> Iterator[dict[str, Rig]]:
    """Rigs that stay open from test to test, one at a time."""
    yield _KEPT
    _close_kept()


@pytest.fixture
def rig(request: pytest.FixtureRequest, tmp_path: Path, configs: Path) -> Iterator[Rig]:
    """A backend, opened and safe; safe again without any error afterwards."""
    backend: Backend = request.param
    shipped = configs / "rigs" / f"{backend.rig}.yaml"
    file = shipped if shipped.is_file() else backend.rig
    if backend.needs_lab:
        request.getfixturevalue("lab")
    if backend.real_time:
        request.getfixturevalue("kept_open")
        yield _kept(backend, file)
        assert _KEPT[backend.name].safe() == []
        return
    changes = {**backend.changes, **({"record": str(tmp_path / "recording")} if backend.replayed else {})}
    with labctl.open_rig(file, set=changes) as opened:
        yield opened
    assert opened.safe_errors == []


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """A replayed backend runs each test once more, on the recording of the test itself."""
    result = yield
    recorded: Rig | None = pyfuncitem.funcargs.get("rig")
    if recorded is not None and recorded.spec.file.record is not None:
        recorded.close()
        assert recorded.safe_errors == []
        for session in sorted(Path(recorded.spec.file.record).iterdir()):
            with labctl.open_rig(session / "rig.yaml") as replaying:
                pyfuncitem.obj(**_arguments(pyfuncitem, replaying))
            assert replaying.safe_errors == []
    return result


@pytest.fixture
def repeatable(rig: Rig) -> None:
    """The same plan gives the same frames, to the bit: no real time, no real light."""


@pytest.fixture
def devices(rig: Rig) -> RigDevices:
    return rig.devices()


@pytest.fixture
def camera(rig: Rig) -> Camera:
    return rig.devices().camera


@pytest.fixture
def instruments(rig: Rig) -> list[Instrument]:
    return _instruments_of(rig)


@pytest.fixture(params=["mask", "scene"])
def display(request: pytest.FixtureRequest, rig: Rig) -> Display:
    """Both displays in turn."""
    return _display_of(rig, request.param)


@pytest.fixture
def lit(rig: Rig, request: pytest.FixtureRequest) -> Lit:
    """Open mask, white scene: leaves both on the displays and returns an exposure that fills the frame."""
    return _lit_of(rig, _backend(request.node))


@pytest.fixture
def look(rig: Rig) -> Look:
    """Wait until the displays have settled, then take one frame of whatever stands there."""
    return _look_of(rig)


def settable(camera: Camera, what: str) -> bool:
    """Whether a camera can change its `exposure` or `gain`; those that cannot say so."""
    return bool(camera.describe_device().get("settable", {}).get(what, True))


def whole_mask(rig: Rig) -> tuple[int, int]:
    """(H, W) cells of a mask that fills what the camera sees of the SLM."""
    return seen_grid(rig, "mask")


def whole_scene(rig: Rig) -> tuple[int, int]:
    """(H, W) pixels of a scene that fills what the camera sees of the scene monitor."""
    if rig.devices().scene is None:
        pytest.skip("this rig has no scene display")
    return seen_grid(rig, "scene")


def shoot(rig: Rig, mask: FloatArray, scene: FloatArray | None, exposure: Exposure, exposure_id: int = 0) -> Frames:
    """One frame of one scene (H, W), None for the live one, through one mask (H, W)."""
    scenes = "live" if scene is None else scene[None, None]
    return rig.expose(still_plan(scenes, mask, exposure, exposure_ids=[exposure_id]))


def fill(rig: Rig, mask: FloatArray, scene: FloatArray) -> Exposure:
    """An exposure that brings the bright pixels of this frame to 30..80 % of saturation."""
    low, high = rig.devices().camera.exposure_limits_s
    time_s = math.sqrt(low * high)
    for _ in range(20):
        frame = shoot(rig, mask, scene, Exposure(exposure_s=time_s))
        share = float(np.percentile(frame.pixels, 95)) / frame.saturation_dn
        if 0.3 <= share <= 0.8:
            return Exposure(exposure_s=time_s)
        time_s = min(max(time_s * (0.25 if share > 0.8 else 2.0), low), high)
    raise AssertionError(f"no exposure within {low:g}..{high:g} s fills the frame; change the light of the rig")


def _backend(node: Any) -> Backend:
    found: Backend = node.callspec.params["rig"]
    return found


def _slow_backend(item: pytest.Item) -> str:
    """Name of the backend when its rig is kept open, else nothing."""
    backend = _backend(item) if hasattr(item, "callspec") and "rig" in item.callspec.params else None
    return backend.name if backend is not None and backend.real_time else ""


def _kept(backend: Backend, file: str | Path) -> Rig:
    """The open rig of this backend; opened anew when a test has closed it, or when another one was open."""
    if backend.name not in _KEPT:
        _close_kept()
        _KEPT[backend.name] = labctl.open_rig(file, set=backend.changes)
    kept = _KEPT[backend.name]
    return kept if kept.is_open else kept.open()


def _close_kept() -> None:
    for name in list(_KEPT):
        closed = _KEPT.pop(name)
        closed.close()
        assert closed.safe_errors == []


def _instruments_of(rig: Rig) -> list[Instrument]:
    found = list(rig.devices().instruments.values())
    if not found:
        pytest.skip("this rig has no instruments")
    return found


def _display_of(rig: Rig, role: str) -> Display:
    found: Display | None = getattr(rig.devices(), role)
    if found is None:
        pytest.skip("this rig has no scene display")
    return found


def _lit_of(rig: Rig, backend: Backend) -> Lit:
    """A rig that is kept open also keeps its light: then one frame, to show mask and scene, is enough."""

    @cache
    def light() -> Exposure:
        mask, scene = np.ones(whole_mask(rig)), np.ones(whole_scene(rig))
        if not backend.real_time:
            return fill(rig, mask, scene)
        if backend.name not in _FILLING:
            _FILLING[backend.name] = fill(rig, mask, scene)
        shoot(rig, mask, scene, _FILLING[backend.name])
        return _FILLING[backend.name]

    return light


def _look_of(rig: Rig) -> Look:
    def take(exposure: Exposure) -> Frames:
        devices = rig.devices()
        camera, settle_s = devices.camera, devices.mask.settle_s
        devices.clock.sleep(max(settle_s, devices.scene.settle_s if devices.scene is not None else 0.0))
        taken = camera.configure(exposure)
        camera.arm(1)
        camera.trigger(FrameTag(0))
        frame = camera.fetch(taken.exposure_s + FETCH_MARGIN_S)
        camera.disarm()
        return frame

    return take


def _arguments(item: pytest.Function, rig: Rig) -> dict[str, Any]:
    """The arguments of a test, with `rig` in place of the rig that it was called with."""
    made: dict[str, Callable[[], Any]] = {
        "rig": lambda: rig,
        "devices": rig.devices,
        "camera": lambda: rig.devices().camera,
        "instruments": lambda: _instruments_of(rig),
        "display": lambda: _display_of(rig, item.callspec.params["display"]),
        "lit": lambda: _lit_of(rig, _backend(item)),
        "look": lambda: _look_of(rig),
    }
    names = inspect.signature(item.obj).parameters
    return {name: made[name]() if name in made else item.funcargs[name] for name in names}
