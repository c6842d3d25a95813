from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import labctl
from labctl import plugins
from labctl.config import ConfigError
from labctl.devices import Camera, Display, Instrument, OpenContext
from labctl.errors import BadInput, HardwareError, InterlockError, RigBusy
from labctl.exposure import Exposure, still_plan
from labctl.rig import Rig
from labctl.rig_file import find_rig, load_rig

RIGS = ("sim", "as-built")


def still(n: int = 3, first_id: int = 0) -> Any:
    rng = np.random.default_rng(0)
    scenes = rng.random((n, 1, 63, 63), dtype=np.float32)
    mask = (rng.random((32, 32)) < 0.5).astype(np.float32)
    exposure = Exposure(exposure_s=0.002, roi=(32, 32))
    return still_plan(scenes, mask, exposure, exposure_ids=first_id + np.arange(n))


@pytest.mark.parametrize("name", RIGS)
def test_the_simulated_and_the_sequenced_light_path_give_the_same_frames(name: str) -> None:
    plan = still(5)
    with labctl.open_rig(name) as rig:
        batched = rig.expose(plan)
    with labctl.open_rig(name, set={"light_path": "sequenced"}) as rig:
        sequenced = rig.expose(plan)
    assert np.array_equal(batched.pixels, sequenced.pixels)
    assert np.array_equal(batched.exposure_s, sequenced.exposure_s)
    assert batched.pixels.std() > 10


def test_frames_come_one_by_one_and_in_order() -> None:
    plan = still(4, first_id=70)
    with labctl.open_rig("sim") as rig:
        whole = rig.expose(plan)
        streamed = list(rig.stream(plan))
    assert [int(frame.exposure_ids[0]) for frame in streamed] == [70, 71, 72, 73]
    assert all(np.array_equal(one.pixels[0], whole.pixels[i]) for i, one in enumerate(streamed))


def test_a_second_opening_is_told_who_holds_the_rig() -> None:
    with labctl.open_rig("sim"), pytest.raises(RigBusy, match="rig 'sim' is held by process"):
        labctl.open_rig("sim")
    labctl.open_rig("sim").close()


def test_the_lamp_is_dark_after_every_way_out(own_state_folder: Path) -> None:
    def lamp() -> float:
        (file,) = own_state_folder.glob("rigs/sim/*lamp*.json")
        return float(json.loads(file.read_text())["power"])

    with labctl.open_rig("sim") as rig:
        assert rig.devices().instruments["lamp"].set_quantity("power", 0.7) == 0.7
        assert lamp() == 0.7
    assert lamp() == 0.0
    with pytest.raises(ZeroDivisionError):
        fail_with_lamp_on()
    assert lamp() == 0.0


def fail_with_lamp_on() -> None:
    with labctl.open_rig("sim") as rig:
        rig.devices().instruments["lamp"].set_quantity("power", 1.0)
        raise ZeroDivisionError


def test_devices_are_made_safe_in_the_declared_order_even_when_one_hangs_and_one_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    order: list[str] = []
    rig = labctl.open_rig("sim", set={"safe_timeout_s": 0.2, "safe_order": ["camera", "lamp", "scene", "mask"]})
    for name, device in rig._devices.items():
        monkeypatch.setattr(device, "safe", lambda name=name: order.append(name))

    def hangs() -> None:
        order.append("lamp")
        time.sleep(1)

    def fails() -> None:
        order.append("scene")
        raise HardwareError("the cable is out")

    monkeypatch.setattr(rig._devices["lamp"], "safe", hangs)
    monkeypatch.setattr(rig._devices["scene"], "safe", fails)
    rig.close()
    assert order == ["camera", "lamp", "scene", "mask"]
    assert rig.safe_errors == ["lamp: no answer within 0.2 s", "scene: HardwareError: the cable is out"]
    with labctl.open_rig("sim") as again:
        assert again.recovered_from is not None, "a rig that was not made safe is remembered"


def test_a_rig_that_fails_to_open_lets_go_of_its_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = plugins.load("labctl.devices", "sim.camera")
    device = type(settings.model_validate({"type": "sim.camera"}).make(_context()))
    with monkeypatch.context() as patch:
        patch.setattr(device, "open", lambda self: (_ for _ in ()).throw(HardwareError("no such camera")))
        with pytest.raises(HardwareError, match="no such camera"):
            labctl.open_rig("sim")
    labctl.open_rig("sim").close()


def test_a_camera_that_is_gone_does_not_keep_a_burning_lamp_from_being_switched_off(
    monkeypatch: pytest.MonkeyPatch, own_state_folder: Path
) -> None:
    rig = labctl.open_rig("sim")
    rig.devices().instruments["lamp"].set_quantity("power", 1.0)
    (lamp,) = own_state_folder.glob("rigs/sim/*lamp*.json")
    burning = lamp.read_text()
    rig.close()
    lamp.write_text(burning)
    (own_state_folder / "rigs" / "sim.holder.json").write_text('{"pid": 1, "since": "yesterday"}')
    camera = type(plugins.load("labctl.devices", "sim.camera").model_validate({"type": "sim.camera"}).make(_context()))
    with monkeypatch.context() as patch:
        patch.setattr(camera, "open", lambda self: (_ for _ in ()).throw(HardwareError("unplugged")))
        with pytest.raises(HardwareError, match="rig 'sim' could not be opened: camera: unplugged"):
            labctl.open_rig("sim")
    assert json.loads(lamp.read_text())["power"] == 0.0
    with labctl.open_rig("sim") as again:
        assert again.recovered_from is not None, "the camera was never made safe"


@pytest.mark.parametrize("method", ["make", "open"])
def test_settings_that_do_not_fit_one_device_leave_no_lamp_burning(
    method: str, monkeypatch: pytest.MonkeyPatch, own_state_folder: Path
) -> None:
    rig = labctl.open_rig("sim")
    rig.devices().instruments["lamp"].set_quantity("power", 1.0)
    (lamp,) = own_state_folder.glob("rigs/sim/*lamp*.json")
    burning = lamp.read_text()
    rig.close()
    lamp.write_text(burning)
    settings = plugins.load("labctl.devices", "sim.camera")
    camera = type(settings.model_validate({"type": "sim.camera"}).make(_context()))

    def refuse(*_: Any) -> None:
        raise BadInput("pixel_format is Mono99, but the camera does not offer it; use Mono12")

    monkeypatch.setattr(settings if method == "make" else camera, method, refuse)
    with pytest.raises(BadInput, match="rig 'sim' could not be opened: camera: pixel_format is Mono99"):
        labctl.open_rig("sim", set={"safe_order": ["camera", "lamp", "scene", "mask"]})
    assert json.loads(lamp.read_text())["power"] == 0.0


def test_a_rig_can_be_closed_from_another_thread() -> None:
    import threading

    rig = labctl.open_rig("sim")
    closer = threading.Thread(target=rig.close)
    closer.start()
    closer.join()
    labctl.open_rig("sim").close()


def test_a_live_scene_is_not_the_picture_that_was_shown_last() -> None:
    mask = np.ones((32, 32))
    exposure = Exposure(exposure_s=0.0005, roi=(32, 32))
    live = still_plan("live", mask, exposure, exposure_ids=[5])
    white = still_plan(np.ones((1, 1, 63, 63)), mask, exposure, exposure_ids=[6])
    for path in ("simulated", "sequenced"):
        with labctl.open_rig("sim", set={"light_path": path}) as rig:
            before = rig.expose(live).pixels
            rig.expose(white)
            assert np.array_equal(rig.expose(live).pixels, before)


def _context() -> OpenContext:
    spec = load_rig(find_rig("sim"))
    world = spec.world.make(spec.twin, spec.roads, Path())
    return OpenContext("camera", "sim", world)


def test_a_rig_that_is_not_open_says_so() -> None:
    with pytest.raises(BadInput, match="rig 'sim' is not open"):
        Rig(load_rig(find_rig("sim"))).expose(still())


def test_an_exposure_beyond_the_camera_is_an_interlock() -> None:
    plan = still_plan(np.ones((1, 1, 63, 63)), np.ones((32, 32)), Exposure(exposure_s=11.0), exposure_ids=[0])
    with labctl.open_rig("sim") as rig, pytest.raises(InterlockError, match="11"):
        rig.expose(plan)


def test_fixing_one_error_of_the_bench_leaves_the_others_as_drawn() -> None:
    with labctl.open_rig("as-built") as rig:
        drawn = rig.describe()["world"]["drawn"]
    with labctl.open_rig("as-built", set={"world.panel_gamma": 2.0}) as rig:
        fixed = rig.describe()["world"]["drawn"]
    differing = {name for name in drawn if drawn[name] != fixed[name]}
    assert differing == {"panel_gamma"}
    assert fixed["panel_gamma"] == 2.0


@pytest.mark.parametrize("name", RIGS)
def test_a_resolved_rig_reads_back_as_itself(name: str, tmp_path: Path) -> None:
    from labctl.config import dump_yaml

    spec = load_rig(find_rig(name))
    (tmp_path / "rig.yaml").write_text(dump_yaml(spec.resolved()))
    again = load_rig(tmp_path / "rig.yaml")
    assert again.content_hash == spec.content_hash
    assert again.twin_hash == spec.twin_hash


def test_the_trainer_sees_the_same_twin_on_both_rigs() -> None:
    sim, built = (load_rig(find_rig(name)) for name in RIGS)
    assert sim.twin_hash == built.twin_hash
    assert sim.content_hash != built.content_hash


def test_an_unknown_rig_name_lists_the_known_ones() -> None:
    with pytest.raises(BadInput, match=r"there is no rig 'nosuch'; allowed: as-built, .*lab-example, .*sim, .*virtual"):
        find_rig("nosuch")


def test_all_problems_of_a_rig_are_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(f"extends: {find_rig('sim').absolute()}\nname: bad\nlight_path: simulatd\nsafe_order: [lamp]\n")
    with pytest.raises(ConfigError) as raised:
        load_rig(path)
    text = str(raised.value)
    assert f"{path}:3:13: light_path" in text
    assert f"{path}:4:13: safe_order" in text


def test_simulated_devices_have_the_interfaces_of_real_ones() -> None:
    with labctl.open_rig("sim") as rig:
        devices = rig.devices()
        assert isinstance(devices.mask, Display)
        assert isinstance(devices.scene, Display)
        assert isinstance(devices.camera, Camera)
        assert all(isinstance(device, Instrument) for device in devices.instruments.values())


def test_a_real_panel_among_simulated_devices_makes_the_rig_real() -> None:
    """A world that says nothing of its own must not call moving hardware simulated."""
    real = load_rig(find_rig("sim"), overrides=["light_path=sequenced", "mask={type: pygame, monitor: 0}"])
    natures = {name: load_rig(find_rig(name)).nature for name in ("sim", "as-built", "virtual", "lab-example")}
    assert natures == {"sim": "simulated", "as-built": "simulated", "virtual": "emulated", "lab-example": "real"}
    assert real.nature == "real"


@pytest.mark.parametrize("light_path", ["sequenced", "simulated"])
def test_what_is_exposed_after_the_rig_was_made_safe_is_never_delivered(light_path: str) -> None:
    """A retake would arm the camera anew and show the picture again, with the lamp off."""
    with labctl.open_rig("sim", set={"light_path": light_path}) as rig:
        frames = rig.stream(still(4))
        next(frames)
        rig.safe()
        with pytest.raises(HardwareError, match="was made safe while it exposed"):
            next(frames)
