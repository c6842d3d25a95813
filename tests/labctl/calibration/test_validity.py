"""A calibration is used only where it holds: same bench, young, as warm as then, same method, same foundations."""

from __future__ import annotations

import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import create_model

from labctl.calibration.validity import bench_hash, in_words, judge
from sim.world import AsBuiltWorldSettings, NominalWorldSettings
from tests.labctl.calibration.records import made, rig

HOUR_S = 3600.0


def test_a_fresh_one_of_this_bench_is_good() -> None:
    spec = rig()
    record = made(spec).record
    verdict = judge(record, spec, version=1, settings={"frames": 64}, holds_for={"frame_shape": (4, 6)})
    assert verdict.good
    assert str(verdict) == "good"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("name=bench-2", "of rig 'as-built', this is 'bench-2'"),
        ("world.seed=3", "before `world`, the simulated bench"),
        ("camera.gain_limit_db=12", "before camera changed"),
    ],
)
def test_one_of_another_bench_is_foreign(override: str, words: str) -> None:
    verdict = judge(made(rig()).record, rig(override))
    assert verdict.standing == "foreign"
    assert words in str(verdict)


@pytest.mark.parametrize(
    "override", ["description=Moved to room 12", "light_path=sequenced", "twin.light.photons_per_s=2e4"]
)
def test_what_is_only_believed_or_told_of_a_bench_does_not_make_it_another(override: str) -> None:
    assert bench_hash(rig(override)) == bench_hash(rig())
    assert judge(made(rig()).record, rig(override)).standing != "foreign"


def test_a_world_or_driver_that_learns_a_setting_leaves_the_bench_what_it_was() -> None:
    spec = rig("camera.gain_limit_db=12")
    camera = spec.devices["camera"]
    known = {"camera": {"settings": camera.model_dump(mode="json")}}
    grown = {
        name: create_model("Grown", __base__=type(settings), warm_up_s=(float, 0.0)).model_validate(
            settings.model_dump(exclude_unset=True)
        )
        for name, settings in (("camera", camera), ("world", spec.world))
    }
    later = replace(spec, devices={**spec.devices, "camera": grown["camera"]}, world=grown["world"])
    assert "warm_up_s" in later.devices["camera"].model_dump()
    assert bench_hash(later) == bench_hash(spec)
    other = replace(later, world=grown["world"].model_copy(update={"seed": 99}))
    verdict = judge(made(spec, devices=known).record, other)
    assert "before `world`" in str(verdict)  # and not its camera, which only learned a setting


def test_worlds_of_another_type_are_other_benches_with_all_settings_at_their_default() -> None:
    kinds = [SimpleNamespace(devices={}, world=world()) for world in (AsBuiltWorldSettings, NominalWorldSettings)]
    assert bench_hash(kinds[0]) != bench_hash(kinds[1])  # type: ignore[arg-type]


def test_one_told_in_terms_of_another_belief_is_stale() -> None:
    verdict = judge(made(rig()).record, rig("twin.sensor.read_noise_e=5"))
    assert verdict.standing == "stale"
    assert "sensor" in str(verdict)


def test_an_old_one_is_stale_and_says_how_old() -> None:
    spec = rig()
    record = made(spec, made=time.time() - 3 * HOUR_S).record
    assert str(judge(record, spec)) == "stale: 3 hours old, 60 minutes is allowed"
    assert judge(record, spec, now=record.made + 0.9 * HOUR_S).good


def test_one_from_the_future_is_not_believed() -> None:
    spec = rig()
    record = made(spec, made=time.time() + 2 * HOUR_S).record
    assert "in the future; set the clock" in str(judge(record, spec))


def test_a_bench_that_is_warmer_now_makes_it_stale() -> None:
    spec, readings = rig(), {"lamp.power": 0.2}
    record = made(spec).record
    assert judge(record, spec, readings={**readings, "lamp.temperature": 26.9}).good
    verdict = judge(record, spec, readings={**readings, "lamp.temperature": 22.5})
    assert str(verdict) == "stale: lamp.temperature changed by -2.5 K since, 2 K is allowed"
    assert judge(record, spec, readings={**readings, "lamp.temperature": None}).good


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"version": 2}, "made by version 1 of the method, today's is 2"),
        ({"settings": {"frames": 128}}, "made with frames 64, 128 is wanted"),
        ({"holds_for": {"frame_shape": (8, 8)}}, r"holds for frame_shape [4, 6], [8, 8] is wanted"),
    ],
)
def test_one_made_otherwise_than_wanted_is_stale(asked: dict[str, Any], words: str) -> None:
    spec = rig()
    verdict = judge(made(spec).record, spec, **asked)
    assert verdict.standing == "stale"
    assert verdict.reasons == (words,)


def test_one_that_stands_on_something_newer_is_stale() -> None:
    spec = rig()
    record = made(spec, "flat", built_on={"dark": "aaaa"}).record
    assert judge(record, spec, newest={"dark": "aaaa", "exposure": "cccc"}).good
    verdict = judge(record, spec, newest={"dark": "bbbb"})
    assert str(verdict) == "stale: stands on an older calibration of `dark`"


def test_every_reason_is_named_at_once() -> None:
    spec = rig()
    record = made(spec, made=time.time() - 5 * HOUR_S).record
    assert len(judge(record, spec, version=3, readings={"lamp.temperature": 40.0}).reasons) == 3


@pytest.mark.parametrize(
    ("seconds", "words"), [(5, "5 seconds"), (119, "119 seconds"), (7200, "2 hours"), (2e5, "2 days")]
)
def test_time_spans_are_told_as_people_say_them(seconds: float, words: str) -> None:
    assert in_words(seconds) == words
