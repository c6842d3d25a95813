"""What every instrument promises. See `labctl.devices.Instrument`."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from labctl.devices import Device, Instrument, Quantity
from labctl.errors import BadInput, HardwareError, InterlockError
from labctl.rig import Rig


def settable(instruments: list[Instrument]) -> list[tuple[Instrument, str, Quantity]]:
    found = [(device, name, quantity) for device in instruments for name, quantity in device.quantities.items()
             if quantity.settable]  # fmt: skip
    if not found:
        pytest.skip("nothing can be set here")
    return found


def near(quantity: Quantity, value: float) -> object:
    """Equal within a hundredth of the range."""
    return pytest.approx(value, abs=0.01 * (quantity.high - quantity.low))


def middle(quantity: Quantity) -> float:
    """The middle of the range; of a switch a middle one of its positions."""
    if quantity.choices:
        return sorted(quantity.choices)[len(quantity.choices) // 2]
    return (quantity.low + quantity.high) / 2


def test_they_are_instruments_and_say_who_they_are(instruments: list[Instrument]) -> None:
    for device in instruments:
        assert isinstance(device, Device)
        assert isinstance(device, Instrument)
        assert device.describe_device()["name"] == device.name
        assert device.quantities


def test_a_rig_file_declares_the_limits_that_the_opened_device_has(rig: Rig) -> None:
    for name, device in rig.devices().instruments.items():
        for quantity, declared in rig.spec.devices[name].declared_quantities().items():
            assert device.quantities[quantity] == declared


def test_what_is_set_is_read_back(instruments: list[Instrument]) -> None:
    for device, name, quantity in settable(instruments):
        for value in (middle(quantity), quantity.high, quantity.low):
            assert device.set_quantity(name, value) == near(quantity, value)
            assert device.read_quantity(name) == near(quantity, value)


def test_a_value_beyond_the_limits_is_refused_and_nothing_changes(instruments: list[Instrument]) -> None:
    for device, name, quantity in settable(instruments):
        span = quantity.high - quantity.low
        device.set_quantity(name, middle(quantity))
        for value in (quantity.low - 0.1 * span, quantity.high + 0.1 * span, math.nan, math.inf, -math.inf):
            with pytest.raises(InterlockError, match=device.name):
                device.set_quantity(name, value)
            assert device.read_quantity(name) == near(quantity, middle(quantity))


def test_an_unknown_quantity_is_named(instruments: list[Instrument]) -> None:
    for device in instruments:
        with pytest.raises(BadInput, match="no-such-quantity"):
            device.read_quantity("no-such-quantity")
        with pytest.raises(BadInput, match="no-such-quantity"):
            device.set_quantity("no-such-quantity", 0.0)


def test_a_switch_takes_nothing_between_its_positions(instruments: list[Instrument]) -> None:
    for device, name, quantity in settable(instruments):
        for low, high in pairwise(sorted(quantity.choices)):
            with pytest.raises(InterlockError, match=device.name):
                device.set_quantity(name, (low + high) / 2)


def test_safe_brings_it_back_to_where_opening_left_it(instruments: list[Instrument]) -> None:
    resting = [(item, item[0].read_quantity(item[1])) for item in settable(instruments) if not item[2].stays]
    for device, name, quantity in settable(instruments):
        device.set_quantity(name, quantity.high)
    for device in instruments:
        device.safe()
        device.safe()
    for (device, name, quantity), value in resting:
        assert device.read_quantity(name) == near(quantity, value)


def test_close_twice_is_fine_and_a_closed_instrument_does_not_move(instruments: list[Instrument]) -> None:
    for device, name, quantity in settable(instruments):
        device.close()
        device.close()
        with pytest.raises(HardwareError, match=device.name):
            device.set_quantity(name, quantity.high)
        device.open()
        if not quantity.stays:
            assert device.read_quantity(name) != near(quantity, quantity.high)
