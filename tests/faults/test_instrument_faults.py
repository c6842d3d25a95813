"""What goes wrong with lamp and shutter, asked and watched during a capture."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from labctl.errors import DeviceTimeout, HardwareError, InterlockError
from tests.faults.captures import LAMP_WATCHED, FaultyLab

SPOILT: list[tuple[str, dict[str, Any], type[HardwareError], str]] = [
    ("late", {"fault": "late", "seconds": 0.6}, DeviceTimeout, "no whole answer within 0.3 s"),
    ("silent", {"fault": "silent"}, DeviceTimeout, "no whole answer within 0.3 s"),
    ("half an answer", {"fault": "half"}, DeviceTimeout, "no whole answer within 0.3 s"),
    ("talks rubbish", {"fault": "rubbish"}, HardwareError, "the answer is no text but"),
    ("wrong answer", {"fault": "value", "text": "NO SUCH"}, HardwareError, "a number is needed"),
    ("hangs up", {"fault": "drop"}, HardwareError, "check"),
]


def said(fault: dict[str, Any]) -> str:
    return "instruments control: " + ", ".join(str(value) for value in fault.values())


QUICK_LAMP = {"instruments__lamp__timeout_s": 0.3}


@pytest.mark.parametrize(("name", "fault", "kind", "words"), SPOILT, ids=[spoilt[0] for spoilt in SPOILT])
def test_a_spoilt_answer_is_an_error_and_the_next_one_is_right(
    faulty: FaultyLab,
    timed: Callable[[], float],
    name: str,
    fault: dict[str, Any],
    kind: type[HardwareError],
    words: str,
) -> None:
    quick = {**QUICK_LAMP, "instruments__lamp__resource": "$VIRTUAL_LAMP"}  # a bare socket: worse than HiSLIP
    with faulty.open(**quick, mask=None, scene=None, camera=None, safe_order=["lamp", "shutter"]) as rig:
        lamp = rig._instruments()["lamp"]
        lamp.set_quantity("power", 0.25)
        faulty.lab.ask_instruments("lamp", **fault)
        with pytest.raises(kind, match=words) as error:
            lamp.read_quantity("power")
        for _ in range(3):
            assert lamp.read_quantity("power") == 0.25, "no answer belongs to an older question"
        assert lamp.read_quantity("emission") == pytest.approx(0.25, rel=0.01)
    assert rig.safe_errors == []
    faulty.refused(f"instrument {name}", said(fault), error.value, timed(), "the next answer is right")


@pytest.mark.parametrize(("name", "fault", "kind", "words"), SPOILT[1:4:2], ids=[spoilt[0] for spoilt in SPOILT[1:4:2]])
def test_a_watched_lamp_that_cannot_be_read_ends_the_capture_and_a_resumed_one_completes_it(
    faulty: FaultyLab, name: str, fault: dict[str, Any], kind: type[HardwareError], words: str
) -> None:
    taken = faulty.capture(
        "live", faults={4: lambda: faulty.lab.ask_instruments("lamp", **fault)}, interlocks=LAMP_WATCHED, **QUICK_LAMP
    )
    assert isinstance(taken.error, InterlockError)
    assert "lamp.emission cannot be read" in str(taken.error)
    assert words in str(taken.error)
    assert taken.seconds < 10
    again = faulty.capture("live", start=len(taken.frames), interlocks=LAMP_WATCHED)
    faulty.resumed(f"instrument {name}, watched", said(fault), taken, again, kind="live")


def test_a_lamp_gone_in_the_middle_ends_the_capture_and_is_made_safe_first_thing_when_it_is_back(
    faulty: FaultyLab,
) -> None:
    taken = faulty.capture(
        "live", faults={4: lambda: faulty.lab.ask_instruments("lamp", fault="refuse")}, interlocks=LAMP_WATCHED
    )
    assert isinstance(taken.error, InterlockError)
    assert "lamp.emission cannot be read" in str(taken.error)
    assert any(error.startswith("lamp: ") for error in taken.safe_errors), "nobody could switch it off, and it is said"
    assert faulty.lab.ask_instruments(None)["lamp"] == 1.0
    faulty.lab.ask_instruments("lamp", fault="none")
    with faulty.open():
        assert faulty.lab.ask_instruments(None)["lamp"] == 0.0
    again = faulty.capture("live", start=len(taken.frames), interlocks=LAMP_WATCHED)
    faulty.resumed("instrument gone in the middle", "instruments control: refuse", taken, again, kind="live")


def test_a_lamp_that_loses_power_delivers_no_dim_frame_and_a_resumed_capture_completes_it(faulty: FaultyLab) -> None:
    taken = faulty.capture(
        "live", faults={6: lambda: faulty.lab.ask_instruments("lamp", fault="mains_off")}, interlocks=LAMP_WATCHED
    )
    assert isinstance(taken.error, InterlockError)
    assert "lamp.emission is 0, it must be within 0.05 of 1 as set" in str(taken.error)
    faulty.lab.ask_instruments("lamp", fault="mains_on")
    again = faulty.capture("live", start=len(taken.frames), interlocks=LAMP_WATCHED)
    faulty.resumed("power loss of the lamp", "instruments control: mains_off", taken, again, kind="live")


def test_a_lamp_too_hot_pauses_the_capture_until_it_is_cool(faulty: FaultyLab) -> None:
    cool = {"quantity": "lamp.temperature", "below": 70.0, "action": "pause", "every_s": 0.05}

    def heat_for_a_while() -> None:
        faulty.lab.ask_instruments("lamp", fault="heat", degrees=80)
        threading.Timer(1.0, faulty.lab.ask_instruments, ["lamp"], {"fault": "heat", "degrees": 0}).start()

    taken = faulty.capture("live", faults={5: heat_for_a_while}, interlocks=[cool])
    assert taken.seconds > 1
    faulty.recovered("lamp too hot for 1 s", "instruments control: heat, 80 degrees", taken, retakes=0, kind="live")


def test_without_an_interlock_a_lamp_that_loses_power_would_spoil_frames(faulty: FaultyLab) -> None:
    taken = faulty.capture("live", faults={6: lambda: faulty.lab.ask_instruments("lamp", fault="mains_off")})
    assert taken.error is None
    pixels = np.concatenate([frame.pixels for frame in taken.frames])
    assert np.array_equal(pixels[:6], faulty.whole["live"][:6])
    assert pixels[6:].mean() < 0.5 * faulty.whole["live"][6:].mean(), "so it is the interlock that keeps them back"
