"""The world of a virtual rig: which errors it has, what it refuses, and its rig file beside that of a lab."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from labctl.errors import BadInput
from labctl.rig_file import load_rig
from sim.twin_settings import TwinSettings
from sim.virtual_lab.world import VirtualLabSettings, VirtualLabWorld, bench_truth
from sim.world import AsBuiltWorldSettings
from tests.sim.virtual_lab.virtual_bench import RIG_FILE, roads, twin_settings

MAY_DIFFER = {
    "name", "description", "world", "mask.monitor", "mask.display", "scene.monitor", "scene.display",
    "camera.producer", "camera.serial", "instruments.lamp.resource", "instruments.shutter.resource",
}  # fmt: skip


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_a_seed_gives_the_errors_that_it_gives_the_as_built_world(seed: int) -> None:
    lab, simulated = VirtualLabSettings(seed=seed).errors(), AsBuiltWorldSettings(seed=seed).errors()
    shared = set(lab) & set(simulated)
    assert shared == set(simulated) - {"scale"}
    assert {name: lab[name] for name in shared} == {name: simulated[name] for name in shared}
    assert -0.03 <= lab["gap_error"] <= 0.03


def test_a_fixed_error_is_kept_and_leaves_the_others_as_drawn() -> None:
    drawn, fixed = VirtualLabSettings(seed=3).errors(), VirtualLabSettings(seed=3, rotation_deg=0.0).errors()
    assert fixed == drawn | {"rotation_deg": 0.0}


def test_the_bench_gets_the_numbers_of_the_twin_with_the_errors_in_their_place() -> None:
    truth = bench_truth(VirtualLabSettings(seed=1, blur_px=0.5), twin_settings(), roads())
    assert truth["optics"]["mask_pixel_m"] == pytest.approx(50e-6)
    assert truth["optics"]["blur_px"] == 0.5
    assert truth["panel"]["stop_px"] == [128, 128]
    assert truth["panel"]["gamma"] == VirtualLabSettings(seed=1).errors()["panel_gamma"]
    assert truth["monitor"]["pixel_px"] == 4
    assert truth["silicon"]["shape"] == [48, 48]
    assert truth["silicon"]["gain_dn_per_e"] == pytest.approx((4095 - 64) / 10_000)


@pytest.mark.parametrize(
    ("block", "change", "says"),
    [
        ("optics", {"model": "fresnel"}, "use shadow"),
        ("sensor", {"colour": "rggb"}, "use none"),
        ("sensor", {"shape": (300, 300)}, "up to 256x256"),
    ],
)
def test_a_twin_that_the_bench_cannot_stand_for_is_refused(block: str, change: dict[str, Any], says: str) -> None:
    values = twin_settings().model_dump()
    twin = TwinSettings.model_validate(values | {block: values[block] | change})
    with pytest.raises(BadInput, match=says):
        bench_truth(VirtualLabSettings(), twin, roads())


def flat(data: Any, at: str = "") -> dict[str, Any]:
    if not isinstance(data, dict):
        return {at: data}
    return {key: value for name, part in data.items() for key, value in flat(part, f"{at}.{name}".strip(".")).items()}


def test_the_rig_file_that_a_lab_edits_differs_in_names_paths_and_display_only() -> None:
    files = (load_rig(RIG_FILE), load_rig(RIG_FILE.with_name("lab-example.yaml")))
    virtual, lab = (flat(spec.resolved()) for spec in files)
    differing = {key for key in virtual.keys() | lab.keys() if virtual.get(key) != lab.get(key)}
    assert {"world" if key.startswith("world.") else key for key in differing} <= MAY_DIFFER
    assert files[1].world is None
    assert virtual["world.display"] == "auto"


@pytest.mark.virtual
@pytest.mark.usefixtures("lab_ground")
def test_the_world_offers_a_clock_its_environment_and_the_truth_for_the_record(tmp_path: Path) -> None:
    world = VirtualLabSettings(seed=1).make(twin_settings(), roads(), tmp_path)
    try:
        assert isinstance(world, VirtualLabWorld)
        assert world.truth()["drawn"]["stray"] == VirtualLabSettings(seed=1).errors()["stray"]
        assert world.truth()["display"].startswith(("xorg", "xvfb"))
        assert world.environment["DISPLAY"].startswith(":")
        before = world.clock.now()
        world.clock.sleep(0.01)
        assert world.clock.now() - before >= 0.01
        assert (tmp_path / "virtual-lab" / "bench.log").is_file()
    finally:
        world.close()
    world.close()
