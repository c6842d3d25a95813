"""A simulated lamp. Its power lives in a file, as a real lamp stays on when the computer dies."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from labctl.devices import Quantity
from labctl.durable import write_json
from labctl.errors import BadInput, HardwareError, InterlockError
from sim.world import World


def lamp_quantities(power_limit: float) -> Mapping[str, Quantity]:
    """What a lamp has: `power`, unit 1, 0..`power_limit`."""
    return {"power": Quantity("1", 0.0, power_limit)}


class SimulatedLamp:
    """One quantity, `power`, unit 1, 0..`power_limit`; it lights the live scene. See `labctl.devices.Instrument`.

    `found_power` is the power at which `open` found the lamp, before it made it safe.
    """

    def __init__(self, name: str, rig_name: str, world: World, power_limit: float) -> None:
        self.name = name
        self.quantities = lamp_quantities(power_limit)
        self.found_power: float | None = None
        safe_name = re.sub(r"[^A-Za-z0-9._-]", "_", f"lamp-{rig_name}-{name}")
        self.state_file = world.state_dir / f"{safe_name}.json"
        self._world = world
        self._open = False

    def open(self) -> None:
        """Connect, note the power found, and go dark. Raises HardwareError when the state file is damaged."""
        self._open = True
        self.found_power = self._stored()
        self.safe()

    def safe(self) -> None:
        """Power 0, whatever the state."""
        self._store(0.0)

    def close(self) -> None:
        """Let go; the lamp stays as it is."""
        self._open = False

    def describe_device(self) -> dict[str, Any]:
        """See `Device.describe_device`."""
        return {
            "name": self.name, "model": "simulated lamp", "power_limit": self.quantities["power"].high,
            "found_power": self.found_power,
        }  # fmt: skip

    def read_quantity(self, name: str) -> float:
        """See `Instrument.read_quantity`."""
        self._check(name)
        return self._stored()

    def set_quantity(self, name: str, value: float) -> float:
        """See `Instrument.set_quantity`."""
        self._check(name)
        limits = self.quantities[name]
        if not (math.isfinite(value) and limits.low <= value <= limits.high):
            raise InterlockError(f"{self.name}: power is {value}, {limits.low:.4g}..{limits.high:.4g} is allowed")
        self._store(float(value))
        return self._stored()

    def _check(self, name: str) -> None:
        if not self._open:
            raise HardwareError(f"{self.name} is not open; call open() first")
        if name not in self.quantities:
            raise BadInput(f"{self.name} has no quantity {name!r}; it has {', '.join(self.quantities)}")

    def _stored(self) -> float:
        if not self.state_file.exists():
            return 0.0
        try:
            return float(json.loads(self.state_file.read_text())["power"])
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise HardwareError(f"{self.name}: cannot read {self.state_file}: {error}; remove the file") from error

    def _store(self, power: float) -> None:
        self.state_file.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.state_file, {"power": power})
        self._world.lamps[self.name] = power
