"""The `calibrate` step measures what is missing or stale, keeps what is good, and says why."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from labctl.api import prepare
from labctl.calibration.record import Calibration
from labctl.calibration.shelf import CalibrationSet, Shelf
from labctl.config import ConfigError
from labctl.errors import RunFailed, Stopped
from labctl.rig import Rig
from labctl.steps import StepContext, StepResult
from protocols.calibrate.kinds import KINDS, in_order

PROTOCOL = Path(__file__).parents[3] / "configs" / "protocols" / "calibrate.yaml"
LAMP = ("steps.calibrate.instruments={lamp: {power: 1.0}}",)
DARK = (*LAMP, "steps.calibrate.kinds=[dark]", "steps.report=null")


class Bench:
    """Runs of the step alone, one after the other on the same state folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.runs = folder, 0
        self.said: list[str] = []

    def plan(self, *overrides: str, rig: str = "as-built") -> Any:
        """The step as it would run."""
        [planned] = list(prepare(PROTOCOL, rig=rig, overrides=[*DARK, *overrides]))
        return planned

    def run(self, *overrides: str, rig: str = "as-built", stop: bool = False, again: bool = False) -> StepResult:
        """Run it in a folder of its own, or `again` in the last one; `said` holds what it said."""
        planned = self.plan(*overrides, rig=rig)
        self.runs += not again
        out, self.said = self.folder / f"run{self.runs}", []
        out.mkdir(exist_ok=True)
        with Rig(planned.setting.rig) as opened:
            return planned.instance.step.run(
                StepContext(
                    planned.setting, out, self.folder, {},
                    lambda message: self.said.append(message["text"]) if message["op"] == "log" else None,
                    lambda: stop, planned.hash, open_rig=lambda: opened,
                )
            )  # fmt: skip

    @property
    def standing(self) -> dict[str, Any]:
        """What the last run wrote about each kind."""
        told: dict[str, Any] = json.loads((self.folder / f"run{self.runs}" / "standing.json").read_text())
        return told


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Bench:
    """Pages are drawn only where they are the subject: drawing takes most of the time."""
    if "pages" not in request.node.name:
        monkeypatch.setattr("protocols.calibrate.step.save_figure", lambda figure, path: path)
    return Bench(tmp_path)


def aged(shelf: Shelf, kind: str, **changed: Any) -> Calibration:
    """The newest calibration with another record, put on the shelf as the newest."""
    newest = shelf.newest(kind)
    assert newest is not None
    other = Calibration(newest.record.model_copy(update=changed), newest.arrays, newest.raw)
    for path in shelf.files(kind):
        path.unlink()
    shelf.put(other)
    return other


def test_what_is_missing_is_measured_and_then_kept_with_its_pages(bench: Bench) -> None:
    first = bench.run()
    assert bench.standing["dark"]["measured"]
    assert "`dark` is measured: there is none yet" in bench.said
    made = CalibrationSet(first.outputs["calibration"])["dark"]
    assert made.record.exposures == first.metrics["exposures"] > 0
    assert sum(len(frames) for name, frames in made.raw.items() if "." not in name) > 0
    second = bench.run()
    assert not bench.standing["dark"]["measured"]
    assert any("`dark` is kept" in text and "good for" in text for text in bench.said)
    assert second.metrics["exposures"] == 0
    assert CalibrationSet(second.outputs["calibration"])["dark"].id == made.id
    for result in (first, second):
        assert (result.outputs["calibration"].parent / "pages" / "dark.png").stat().st_size > 5_000
    assert bench.plan().estimate.frames == 0


def test_the_plan_says_what_will_be_measured_and_why(bench: Bench) -> None:
    estimate = bench.plan().estimate
    assert estimate.frames > 0
    assert [move for move in estimate.moves if "calibrates dark" in move and "there is none yet" in move]


@pytest.mark.parametrize(
    ("changed", "override", "why"),
    [
        ({"made": time.time() - 40 * 86_400, "max_age_s": 86_400.0}, None, "days old"),
        ({"version": 99}, None, "made by version 99 of the method"),
        ({"readings": {"lamp.temperature": 80.0}, "units": {"lamp.temperature": "degC"}}, None, None),
        ({}, "rig.world.seed=5", "before `world`, the simulated bench"),
        ({}, "steps.calibrate.renew=true", "asked for anew"),
    ],
)
def test_what_is_stale_or_foreign_is_measured_anew_and_says_why(
    bench: Bench, changed: dict[str, Any], override: str | None, why: str | None
) -> None:
    bench.run()
    before = aged(Shelf("as-built"), "dark", **changed)
    bench.run(*([override] if override else []))
    now = bench.standing["dark"]
    assert now["measured"] == (why is not None)  # a temperature that nobody can read now says nothing
    assert (now["id"] != before.id) == now["measured"]
    assert why is None or why in now["why"]


def test_two_protocols_with_other_frames_take_turns_without_measuring_again(bench: Bench) -> None:
    smaller = ("scene_px=[55, 55]",)
    ids = []
    for overrides, measured in (((), True), (smaller, True), ((), False), (smaller, False)):
        bench.run(*overrides)
        assert bench.standing["dark"]["measured"] == measured, bench.said
        ids.append(bench.standing["dark"]["id"])
    assert ids[:2] == ids[2:]
    assert ids[0] != ids[1]


def test_what_is_asked_for_anew_ends_what_was_measured_before_for_other_frames_too(bench: Bench) -> None:
    smaller = "scene_px=[55, 55]"
    bench.run()
    bench.run(smaller, "steps.calibrate.renew=true")
    bench.run()
    assert bench.standing["dark"]["measured"]
    assert "frame_shape" in bench.standing["dark"]["why"]


def test_what_the_dark_frame_sets_is_checked_before_anything_moves(bench: Bench) -> None:
    with pytest.raises(ConfigError, match="has no instrument 'lmap'"):
        bench.plan("steps.calibrate.dark.darken={lmap: {power: 0}}")


def test_other_settings_of_the_method_make_it_stale(bench: Bench) -> None:
    bench.run()
    frames = bench.plan().instance.step.dark.frames
    bench.run(f"steps.calibrate.dark.frames={frames + 4}")
    assert f"made with frames {frames}, {frames + 4} is wanted" in bench.standing["dark"]["why"]


def test_a_damaged_one_is_passed_over_and_measured_anew(bench: Bench) -> None:
    bench.run()
    [path] = Shelf("as-built").files("dark")
    path.write_bytes(path.read_bytes()[:-200])
    bench.run()
    assert bench.standing["dark"] == bench.standing["dark"] | {"measured": True, "why": "there is none yet"}


def test_a_run_that_is_stopped_and_resumed_measures_the_same_bits(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = bench.run()
    expected = CalibrationSet(whole.outputs["calibration"])["dark"]
    monkeypatch.setenv("LABCTL_STATE", str(bench.folder / "other-state"))
    with pytest.raises(Stopped, match="calibrations made before `dark` are kept"):
        bench.run(stop=True)
    resumed = CalibrationSet(bench.run(again=True).outputs["calibration"])["dark"]
    assert resumed.record.values == expected.record.values
    for name in expected.raw:
        assert np.array_equal(resumed.raw[name], expected.raw[name])


def test_each_kind_comes_after_what_it_stands_on() -> None:
    order = in_order(KINDS)
    assert set(order) == set(KINDS)
    for place, name in enumerate(order):
        assert set(KINDS[name].after) <= set(order[:place])


def test_an_unknown_kind_is_bad_input_that_names_the_near_one() -> None:
    with pytest.raises(ConfigError, match="there is no calibration 'drak'; did you mean `dark`"):
        list(prepare(PROTOCOL, rig="as-built", overrides=["steps.calibrate.kinds=[drak]"]))


def test_a_rig_that_lacks_a_device_is_refused_before_anything_moves(tmp_path: Path) -> None:
    rig = tmp_path / "blind.yaml"
    rig.write_text(yaml.safe_dump({"extends": str(PROTOCOL.parents[1] / "rigs" / "as-built.yaml"), "scene": None}))
    with pytest.raises(ConfigError, match="scene"):
        list(prepare(PROTOCOL, rig=str(rig), overrides=[]))


def test_a_refused_calibration_leaves_its_picture_and_nothing_on_the_shelf(bench: Bench) -> None:
    with pytest.raises(RunFailed, match=r"calibration `dark`: .*; see .*refused/dark\.png"):
        bench.run("rig.twin.sensor.black_level_dn=0", "rig.world.dark_offset=0")
    assert (bench.folder / "run1" / "refused" / "dark.png").stat().st_size > 5_000
    assert Shelf("as-built").newest("dark") is None
