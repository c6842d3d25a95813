"""The five instruments. Their state outlives whoever talks to them, as a real lamp stays on when the computer dies."""

from __future__ import annotations

import random
import time

from sim.virtual_lab.instruments.bench_light import BenchLight, Slot
from sim.virtual_lab.instruments.scpi import ScpiInstrument, number, switch

FULL_POWER_W = 1e-3
"""What the power meter sees of the lamp at full power."""

METER_NOISE = 1e-3
EMISSION_NOISE = 5e-4
"""Relative noise of one reading."""

AMBIENT_C = 25.0
LAMP_HEATING_C = 35.0
LAMP_HEATING_S = 20.0
"""A lamp at full power ends at 60 degC; the time constant is that of a small heat sink."""

BLADE_S = 0.01
"""Travel of the shutter blade."""

STAGE_M = 25e-3
STAGE_M_PER_S = 0.1
"""Travel and speed of the stage."""

LOAD_OHM = 50.0
"""What hangs at the power supply."""


class Travel:
    """Something that goes to its target at constant speed."""

    def __init__(self, position: float, speed: float) -> None:
        self.target = position
        self._from = position
        self._since_s = time.monotonic()
        self._speed = speed

    @property
    def position(self) -> float:
        """Where it is now."""
        way = self.target - self._from
        gone = self._speed * (time.monotonic() - self._since_s)
        return self.target if gone >= abs(way) else self._from + (gone if way > 0 else -gone)

    @property
    def arrived(self) -> bool:
        """Whether it stands at its target."""
        return self.position == self.target

    def go(self, target: float) -> None:
        """Leave for `target`."""
        self._from, self._since_s, self.target = self.position, time.monotonic(), target

    def stop(self) -> None:
        """Stand still here."""
        self.go(self.position)


class VirtualInstrument(ScpiInstrument):
    """An instrument with a place on the bench."""

    def __init__(self, model: str, light: BenchLight, seed: int) -> None:
        super().__init__(f"labctl,Virtual {model},SN{seed:04d},1.0")
        self.light = light
        self.noise = random.Random(f"{model}-{seed}")

    def execute(self, line: str) -> str | None:
        """See `ScpiInstrument.execute`. Whoever has its answer finds the bench as it says: the arrived is there."""
        with self.lock:
            answer = super().execute(line)
            self.tick()
        return answer

    def tick(self) -> None:
        """Bring the array up to date; called often, and with every command."""


class LightSource(VirtualInstrument):
    """Power in percent. It heats up. Without mains its controller still answers, and nothing shines."""

    def __init__(self, light: BenchLight, seed: int) -> None:
        super().__init__("light source", light, seed)
        self.level = 0.0
        self.on = False
        self.mains = True
        self.extra_heat_c = 0.0
        self._heat_c = 0.0
        self._heated_s = time.monotonic()
        self.add("SOURce:POWer[:LEVel]", self._set_level)
        self.add("SOURce:POWer[:LEVel]?", lambda _: f"{100 * self.level:.4f}")
        self.add("OUTPut[:STATe]", self._set_output)
        self.add("OUTPut[:STATe]?", lambda _: str(int(self.on)))
        self.add("MEASure:POWer?", lambda _: f"{100 * self.emission * self.noise.gauss(1, EMISSION_NOISE):.4f}")
        self.add("MEASure:TEMPerature?", lambda _: f"{self._temperature_c():.2f}")

    @property
    def emission(self) -> float:
        """The light that really comes out, 0..1."""
        return self.level if self.on and self.mains else 0.0

    def lose_mains(self) -> None:
        """The lamp goes dark; its controller does not notice."""
        self.mains = False
        self.tick()

    def regain_mains(self) -> None:
        """Power is back; the lamp restarts dark, as lamps do."""
        self.mains, self.on, self.level = True, False, 0.0
        self.tick()

    def reset(self) -> None:
        """Dark."""
        self.level, self.on = 0.0, False
        self.tick()

    def tick(self) -> None:
        """See `VirtualInstrument.tick`."""
        self.light[Slot.LAMP] = self.emission

    def _set_level(self, given: list[str]) -> None:
        self._temperature_c()
        self.level = number(given, 0, 100) / 100
        self.tick()

    def _set_output(self, given: list[str]) -> None:
        self._temperature_c()
        self.on = switch(given, {"ON": True, "OFF": False})
        self.tick()

    def _temperature_c(self) -> float:
        now = time.monotonic()
        share = 2.0 ** (-(now - self._heated_s) / LAMP_HEATING_S)
        self._heat_c = share * self._heat_c + (1 - share) * LAMP_HEATING_C * self.emission
        self._heated_s = now
        return AMBIENT_C + self._heat_c + self.extra_heat_c


class PowerMeter(VirtualInstrument):
    """Sees the lamp itself, before the shutter."""

    def __init__(self, light: BenchLight, seed: int) -> None:
        super().__init__("power meter", light, seed)
        self.wavelength_nm = 550.0
        self.add("MEASure[:SCALar]:POWer?", lambda _: f"{self._power_w():.6E}")
        self.add("SENSe:CORRection:WAVelength", self._set_wavelength)
        self.add("SENSe:CORRection:WAVelength?", lambda _: f"{self.wavelength_nm:.2f}")

    def reset(self) -> None:
        """550 nm."""
        self.wavelength_nm = 550.0

    def _power_w(self) -> float:
        return FULL_POWER_W * self.light[Slot.LAMP] * self.noise.gauss(1, METER_NOISE)

    def _set_wavelength(self, given: list[str]) -> None:
        self.wavelength_nm = number(given, 400, 1100)


class Shutter(VirtualInstrument):
    """Open or closed, with a blade that takes its time."""

    def __init__(self, light: BenchLight, seed: int) -> None:
        super().__init__("shutter", light, seed)
        self.blade = Travel(0.0, 1 / BLADE_S)
        self.add("SHUTter:STATe", self._set_state)
        self.add("SHUTter:STATe?", lambda _: "OPEN" if self.blade.target else "CLOSED")

    def reset(self) -> None:
        """Closed."""
        self.blade.go(0.0)

    def tick(self) -> None:
        """See `VirtualInstrument.tick`."""
        self.light[Slot.SHUTTER] = self.blade.position

    def _set_state(self, given: list[str]) -> None:
        self.blade.go(float(switch(given, {"OPEN": True, "CLOSED": False})))


class PowerSupply(VirtualInstrument):
    """One channel with a resistor at its output; beyond the current limit the voltage gives way."""

    def __init__(self, light: BenchLight, seed: int) -> None:
        super().__init__("power supply", light, seed)
        self.voltage = 0.0
        self.current = 0.0
        self.on = False
        self.add("[SOURce:]VOLTage[:LEVel]", self._set_voltage)
        self.add("[SOURce:]VOLTage[:LEVel]?", lambda _: f"{self.voltage:.4f}")
        self.add("[SOURce:]CURRent[:LEVel]", self._set_current)
        self.add("[SOURce:]CURRent[:LEVel]?", lambda _: f"{self.current:.4f}")
        self.add("OUTPut[:STATe]", self._set_output)
        self.add("OUTPut[:STATe]?", lambda _: str(int(self.on)))
        self.add("MEASure[:SCALar]:VOLTage?", lambda _: f"{self._output_v():.4f}")
        self.add("MEASure[:SCALar]:CURRent?", lambda _: f"{self._output_v() / LOAD_OHM:.4f}")

    def reset(self) -> None:
        """Off, 0 V, 0 A."""
        self.voltage, self.current, self.on = 0.0, 0.0, False
        self.tick()

    def tick(self) -> None:
        """See `VirtualInstrument.tick`."""
        self.light[Slot.SUPPLY] = self._output_v()

    def _output_v(self) -> float:
        return min(self.voltage, self.current * LOAD_OHM) if self.on else 0.0

    def _set_voltage(self, given: list[str]) -> None:
        self.voltage = number(given, 0, 30)

    def _set_current(self, given: list[str]) -> None:
        self.current = number(given, 0, 3)

    def _set_output(self, given: list[str]) -> None:
        self.on = switch(given, {"ON": True, "OFF": False})
        self.tick()


class TranslationStage(VirtualInstrument):
    """Goes to a position in millimetres at finite speed, and can be stopped."""

    def __init__(self, light: BenchLight, seed: int) -> None:
        super().__init__("translation stage", light, seed)
        self.axis = Travel(0.0, STAGE_M_PER_S)
        self.stuck = False
        self.add("MOVE:ABSolute", self._move)
        self.add("MOVE:STOP", lambda _: self.axis.stop())
        self.add("MOVE:DONE?", lambda _: str(int(self.axis.arrived and not self.stuck)))
        self.add("POSition?", lambda _: f"{1e3 * self.axis.position:.5f}")

    def reset(self) -> None:
        """Stand still."""
        self.axis.stop()

    def tick(self) -> None:
        """See `VirtualInstrument.tick`."""
        self.light[Slot.STAGE] = self.axis.position

    def _move(self, given: list[str]) -> None:
        target = 1e-3 * number(given, 0, 1e3 * STAGE_M)
        if not self.stuck:
            self.axis.go(target)
