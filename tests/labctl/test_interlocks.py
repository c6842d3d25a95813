"""Interlocks: what is doubtful is not delivered, what was delivered stays, and the light goes off."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

import labctl
from labctl.config import ConfigError
from labctl.devices import Quantity
from labctl.errors import HardwareError, InterlockError
from labctl.exposure import Exposure, ExposurePlan, Frames, still_plan
from labctl.interlocks import HELD, Interlock, InterlockGuard
from labctl.rig_file import find_rig, load_rig

FRAME_S = 0.01


class Lamp:
    """A lamp whose light and temperature the test sets behind everybody's back."""

    name = "lamp"
    quantities = {"power": Quantity("1", 0.0, 1.0), "temperature": Quantity("degC", 0.0, 100.0, settable=False)}

    def __init__(self) -> None:
        self.values: dict[str, float] = {"power": 0.0, "temperature": 25.0}
        self.broken = False
        self.reads = 0

    def open(self) -> None: ...

    def safe(self) -> None:
        self.values["power"] = 0.0

    def close(self) -> None: ...

    def describe_device(self) -> dict[str, Any]:
        return {"name": self.name}

    def read_quantity(self, name: str) -> float:
        self.reads += 1
        if self.broken:
            raise HardwareError("the lamp does not answer")
        return self.values[name]

    def set_quantity(self, name: str, value: float) -> float:
        self.values[name] = value
        return value


class Bench:
    """Exposes frames whose pixels say how strong the lamp was, and can lose the lamp at one exposure."""

    def __init__(self, *interlocks: dict[str, Any], frames: int = 60) -> None:
        self.lamp = Lamp()
        self.guard = InterlockGuard([Interlock(**interlock) for interlock in interlocks], {"lamp": self.lamp})
        self.plan = still_plan(
            np.zeros((frames, 1, 1, 1)), np.ones((1, 1)), Exposure(exposure_s=1.0), exposure_ids=np.arange(frames)
        )
        self.events: dict[int, Any] = {}
        self.exposed: list[int] = []
        self.made_safe = 0
        self.guard.start()

    def expose(self, plan: ExposurePlan) -> Iterator[Frames]:
        for exposure_id in plan.exposure_ids:
            self.events.pop(int(exposure_id), lambda: None)()
            time.sleep(FRAME_S)
            self.exposed.append(int(exposure_id))
            light = np.full((1, 1, 1, 1), 1000 * self.lamp.values["power"], dtype=np.uint16)
            one = np.zeros(1)
            ids = np.array([exposure_id])
            yield Frames(light, ids, ids, one, one, one, one, saturation_dn=4095)

    def make_safe(self) -> None:
        self.made_safe += 1
        self.guard.expect_nothing()
        self.lamp.safe()

    def stream(self) -> Iterator[Frames]:
        return self.guard.stream(self.plan, self.expose, self.make_safe)

    def lose(self) -> None:
        self.lamp.values["power"] = 0.0


@pytest.fixture
def bench(request: pytest.FixtureRequest) -> Iterator[Any]:
    made: list[Bench] = []

    def make(*interlocks: dict[str, Any], **settings: Any) -> Bench:
        made.append(Bench(*interlocks, **settings))
        return made[-1]

    yield make
    for one in made:
        one.guard.stop()


ON = {"quantity": "lamp.power", "within": 0.05, "every_s": 0.05}


def ids(frames: list[Frames]) -> list[int]:
    return [int(frame.exposure_ids[0]) for frame in frames]


def test_when_all_is_well_every_frame_comes_once_and_in_order(bench: Any) -> None:
    one = bench(ON, {"quantity": "lamp.temperature", "below": 60})
    one.guard.instruments["lamp"].set_quantity("power", 1.0)
    assert ids(list(one.stream())) == list(range(60)) == one.exposed
    assert one.made_safe == 0


def test_a_lamp_that_goes_dark_ends_the_capture_and_no_dark_frame_is_delivered(bench: Any) -> None:
    one = bench(ON)
    one.guard.instruments["lamp"].set_quantity("power", 1.0)
    one.events[20] = one.lose
    delivered = []
    with pytest.raises(InterlockError, match=r"lamp\.power is 0, it must be within 0\.05 of 1 as set") as raised:
        delivered.extend(one.stream())
    assert ids(delivered) == list(range(len(delivered)))
    assert 0 < len(delivered) <= 20
    assert all(frame.pixels[0, 0, 0, 0] == 1000 for frame in delivered)
    kept_back = len(one.exposed) - len(delivered)
    assert f"{kept_back} frames were exposed since the last good reading and not delivered" in str(raised.value)
    assert one.made_safe == 1


@pytest.mark.parametrize("action", ["abort", "pause"])
def test_a_lamp_lost_while_no_frame_waits_does_not_end_the_stream_as_if_all_had_come(bench: Any, action: str) -> None:
    """All HELD frames were just vouched for and handed out; who takes them is slow; then the guard sees the loss."""
    one = bench({**ON, "action": action, "every_s": 0.02}, frames=2 * HELD)
    one.guard.instruments["lamp"].set_quantity("power", 1.0)
    one.guard.stop()  # its own readings would vouch for single frames; this one reads when HELD wait
    delivered = []

    def take() -> None:
        for frame in one.stream():
            delivered.append(frame)
            if len(delivered) == HELD:
                one.lose()
                one.guard._read_all()  # as the guard's thread does at any moment
                if action == "pause":
                    one.lamp.values["power"] = 1.0

    if action == "pause":
        take()
        assert ids(delivered) == list(range(2 * HELD))
    else:
        with pytest.raises(InterlockError, match=r"lamp\.power is 0"):
            take()
        assert ids(delivered) == list(range(HELD))


def test_a_lamp_that_flickers_between_two_deliveries_spoils_what_was_exposed_meanwhile(bench: Any) -> None:
    """Dark and bright again before the stream looks: the guard's own readings have seen it."""
    one = bench({**ON, "action": "pause", "every_s": 0.02}, frames=10)
    one.guard.instruments["lamp"].set_quantity("power", 1.0)

    def flicker() -> None:
        one.lose()
        time.sleep(0.1)
        one.lamp.values["power"] = 1.0

    one.events[5] = flicker
    delivered = list(one.stream())
    assert ids(delivered) == list(range(10))
    assert one.exposed.count(5) == 2, "it was exposed when nobody vouched for the light, and again afterwards"


def test_a_pause_waits_says_so_and_exposes_again_what_was_doubtful(
    bench: Any, caplog: pytest.LogCaptureFixture
) -> None:
    one = bench({"quantity": "lamp.temperature", "below": 60, "action": "pause", "every_s": 0.05})
    one.lamp.values["power"] = 1.0

    def overheat() -> None:
        one.lamp.values.update(temperature=70.0, power=0.5)
        threading.Timer(0.4, lambda: one.lamp.values.update(temperature=50.0, power=1.0)).start()

    one.events[10] = overheat
    with caplog.at_level(logging.WARNING, logger="labctl.interlocks"):
        delivered = list(one.stream())
    assert ids(delivered) == list(range(60))
    assert all(frame.pixels[0, 0, 0, 0] == 1000 for frame in delivered)
    assert one.exposed.count(10) == 2
    assert "paused: lamp.temperature is 70, it must be below 60" in caplog.text
    assert "going on" in caplog.text


def test_a_pause_that_lasts_too_long_aborts(bench: Any) -> None:
    limits = {"every_s": 0.05, "pause_limit_s": 0.2}
    one = bench({"quantity": "lamp.temperature", "below": 60, "action": "pause", "message": "call Ada", **limits})
    one.lamp.values["temperature"] = 70.0
    with pytest.raises(InterlockError, match=r"below 60 \(call Ada\), for more than 0\.2 s; the rig was made safe"):
        next(one.stream())
    assert one.exposed == []


def test_what_cannot_be_read_is_not_vouched_for(bench: Any) -> None:
    one = bench({"quantity": "lamp.temperature", "below": 60, "every_s": 0.05})
    one.events[10] = lambda: setattr(one.lamp, "broken", True)
    with pytest.raises(InterlockError, match=r"lamp\.temperature cannot be read: the lamp does not answer"):
        list(one.stream())
    assert one.made_safe == 1


def test_an_abort_while_nothing_is_exposed_switches_off_at_once_and_is_told_by_the_next_exposure(bench: Any) -> None:
    one = bench({"quantity": "lamp.temperature", "below": 60, "every_s": 0.02})
    one.guard.instruments["lamp"].set_quantity("power", 1.0)
    one.lamp.values["temperature"] = 70.0
    time.sleep(0.3)
    assert one.lamp.values["power"] == 0.0
    one.lamp.values["temperature"] = 25.0
    for _ in range(2):
        with pytest.raises(InterlockError, match=r"lamp\.temperature is 70"):
            next(one.stream())
    assert one.exposed == []


def test_a_condition_on_exposures_does_not_mind_a_dark_lamp_before_them(bench: Any) -> None:
    one = bench({"quantity": "lamp.power", "above": 0.5, "when": "exposing", "every_s": 0.02})
    time.sleep(0.1)
    one.guard.instruments["lamp"].set_quantity("power", 1.0)
    assert len(list(one.stream())) == 60
    one.lose()
    time.sleep(0.1)
    with pytest.raises(InterlockError, match=r"it must be above 0\.5"):
        next(one.stream())


def test_nothing_is_expected_of_a_lamp_that_was_not_set_or_was_made_safe(bench: Any) -> None:
    one = bench(ON, frames=3)
    assert len(list(one.stream())) == 3
    one.guard.instruments["lamp"].set_quantity("power", 1.0)
    one.make_safe()
    assert len(list(one.stream())) == 3


def test_a_setting_during_a_slow_reading_is_not_taken_for_a_loss(bench: Any) -> None:
    """A meter that takes its time says what the light was somewhere in between."""
    one = bench(ON, frames=3)
    one.guard.stop()
    meter = Lamp()

    def slow(name: str) -> float:
        time.sleep(0.03)
        between = one.lamp.values["power"]
        time.sleep(0.03)
        return between

    meter.read_quantity = slow  # type: ignore[method-assign]
    interlock = Interlock(quantity="meter.power", within=0.01, of="lamp.power", every_s=0.02)
    one.guard = InterlockGuard([interlock], {"lamp": one.lamp, "meter": meter})
    one.guard.start()
    for power in np.linspace(0.1, 1.0, 40):
        one.guard.instruments["lamp"].set_quantity("power", float(power))
        time.sleep(0.013)
    assert len(list(one.stream())) == 3


def test_no_more_frames_wait_than_allowed_and_readings_are_few(bench: Any) -> None:
    one = bench({"quantity": "lamp.temperature", "below": 60, "every_s": 3600}, frames=3 * HELD)
    waiting = 0
    for count, _ in enumerate(one.stream(), 1):
        waiting = max(waiting, len(one.exposed) - count + 1)
    assert waiting <= HELD
    assert one.lamp.reads < 3 * HELD / 4


def test_a_reader_that_stops_early_ends_the_exposures(bench: Any) -> None:
    one = bench(ON)
    frames = one.stream()
    next(frames)
    frames.close()
    exposed = len(one.exposed)
    time.sleep(3 * FRAME_S)
    assert len(one.exposed) == exposed < 60


WRONG = [
    ({}, "an interlock needs a condition"),
    ({"above": 5, "below": 4}, "cannot hold together"),
    ({"above": 5, "of": "lamp.power"}, "`of` belongs to `within`"),
    ({"quantity": "lamp", "below": 4}, "quantity"),
]


@pytest.mark.parametrize(("wrong", "text"), WRONG)
def test_an_interlock_that_makes_no_sense_is_refused(wrong: dict[str, Any], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        Interlock(**{"quantity": "lamp.power", **wrong})


def test_a_rig_file_with_an_interlock_on_nothing_says_where(tmp_path: Path) -> None:
    path = tmp_path / "bench.yaml"
    path.write_text(
        f"extends: {find_rig('sim').absolute()}\n"
        "interlocks:\n"
        "  - {quantity: lmp.power, below: 1}\n"
        "  - {quantity: lamp.powr, below: 1}\n"
    )
    with pytest.raises(ConfigError) as raised:
        load_rig(path)
    assert f"{path}:3:16: interlocks[0].quantity: there is no instrument 'lmp'; did you mean `lamp`?" in str(
        raised.value
    )
    assert f"{path}:4:16: interlocks[1].quantity: 'lamp' has no quantity 'powr'; did you mean `power`?" in str(
        raised.value
    )


@pytest.mark.parametrize("light_path", ["simulated", "sequenced"])
def test_a_guarded_rig_gives_the_frames_of_an_unguarded_one(light_path: str) -> None:
    rng = np.random.default_rng(0)
    plan = still_plan(
        rng.random((70, 1, 63, 63), dtype=np.float32),
        np.ones((32, 32)),
        Exposure(exposure_s=0.002, roi=(32, 32)),
        exposure_ids=np.arange(70),
    )
    with labctl.open_rig("sim", set={"light_path": light_path}) as rig:
        free = rig.expose(plan)
    guarded = {"light_path": light_path, "interlocks": [{"quantity": "lamp.power", "within": 0.01}]}
    with labctl.open_rig("sim", set=guarded) as rig:
        rig.devices().instruments["lamp"].set_quantity("power", 0.5)
        assert np.array_equal(rig.expose(plan).pixels, free.pixels)
        threads = [thread.name for thread in threading.enumerate()]
        assert "labctl-interlocks" in threads
    assert "labctl-interlocks" not in [thread.name for thread in threading.enumerate()]
