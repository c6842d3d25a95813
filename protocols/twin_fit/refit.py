"""A twin that goes on learning from the captures of a training, one damped Gauss-Newton step for each batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from labctl.errors import BadInput
from protocols.twin_fit.captures import Captures
from protocols.twin_fit.noise import signal_of, variance_of
from protocols.twin_fit.prediction import Predictor, put_values
from protocols.twin_fit.priors import LEAK, LEAST_LEAK, MOST_LEAK, Parameter

if TYPE_CHECKING:
    from sim.twin import Twin

NAMES = (
    "shift_px", "rotation_rad", "scale", "blur_px", "panel_gamma", "log_contrast", "stray", "photons_per_s",
)  # fmt: skip
"""Refitted by default: what moves or ages on a bench. Maps of the sensor stay."""

KNOWN_TO = {
    "shift_px": 0.3, "rotation_rad": 5e-3, "scale": 5e-3, "blur_px": 0.1, "tilt_rad": 5e-3, "gap_error": 5e-3,
    "panel_gamma": 0.1, LEAK: 5e-3, "crosstalk": 0.05, "stray": 0.02, "vignetting": 0.05, "dark_offset": 2e-3,
}  # fmt: skip
"""How well a twin is taken to be known before the first batch; `photons_per_s` to RELATIVE of itself."""

RELATIVE = 0.05

LIMITS = {
    "scale": (0.5, 2.0), "blur_px": (0.02, 8.0), "panel_gamma": (0.3, 5.0), LEAK: (LEAST_LEAK, MOST_LEAK),
    "crosstalk": (0.0, 0.8), "stray": (0.0, 1.0), "vignetting": (0.0, 0.95), "dark_offset": (0.0, 0.5),
    "photons_per_s": (1e-9, np.inf),
}  # fmt: skip

MODEL_ERROR = 0.01
"""What every twin errs by, as a share of the signal: no batch is believed beyond it."""

ROOM_PX = 4
"""Room round the shadow that is added to that of the twin, for values that move."""

REACH = {"shift_px": 2.0, "rotation_rad": 0.01, "scale": 0.01, "blur_px": 0.3, "tilt_rad": 0.02, "gap_error": 0.03}
"""How far each may move from where it began: so far that room allows. A bench that moved further is fitted anew."""

MOST_FRAMES = 16
"""Of a batch that are looked at, evenly spread: more tell little more."""

LARGEST_STEP = 1.0
"""Of one update, in standard deviations of what was known before the first batch."""


class TwinRefit:
    """Refits `names` of `twin` in place, batch by batch, with a memory of earlier ones: an information filter.

    memory: share of what earlier batches told that is kept at each update; what is forgotten is made up by what was
    known at the start. 1 forgets nothing. Values that a measured table or map stands for drop out:
    panel_gamma, vignetting, dark_offset. A checkpoint keeps `state_dict`.
    """

    def __init__(self, twin: Twin, names: tuple[str, ...] = NAMES, *, memory: float = 0.98) -> None:
        if not 0 < memory <= 1:
            raise BadInput(f"memory is {memory:g}; above 0 and up to 1 is allowed")
        self.twin, self.memory = twin, memory
        self.parameters = _parameters(twin, names)
        self.numbers = np.array([p.mean for p in self.parameters])
        self._known = np.diag([1 / p.sigma**2 for p in self.parameters])
        self._start = self.numbers.copy()
        self.information = self._known.copy()
        self.updates = 0
        self.residual = float("nan")
        """Of the last batch before it was learned from: RMS error over its noise."""
        twin.pad = int(twin.pad or 0) + ROOM_PX

    @property
    def errors(self) -> dict[str, float]:
        """Standard deviation of each number, by label."""
        sigma = np.sqrt(np.diag(np.linalg.inv(self.information)))
        return {p.label: float(error) for p, error in zip(self.parameters, sigma, strict=True)}

    def update(self, shown: Tensor, mask: Tensor, exposure_s: Tensor, frames: Tensor) -> None:
        """Learn from captures. shown: (N, C, H, W) radiance as the monitor shows it. mask: (H, W) transmittance.

        exposure_s: (N,) taken. frames: (N, 1, h, w) raw DN; saturated pixels are left out.
        """
        some = torch.linspace(0, len(frames) - 1, min(MOST_FRAMES, len(frames))).round().long()
        captures = self._captures(shown[some], mask, exposure_s[some], frames[some])
        predictor = Predictor(self.twin, captures, self.parameters, shown=shown[some].to(self.twin.shift_px))
        foretold, slopes = predictor.frames_and_slopes(self.numbers)
        weight, off = self._weight(foretold, captures), captures.frames - foretold
        self.residual = float(np.sqrt(np.sum((off * weight) ** 2) / max(1, np.count_nonzero(weight))))
        weighed = (slopes * weight).reshape(len(self.numbers), -1)
        trust = 1 / max(1.0, self.residual**2)
        pull = trust * weighed @ (off * weight).ravel()
        pull += (1 - self.memory) * self._known @ (self._start - self.numbers)
        self.information = self.memory * self.information + (1 - self.memory) * self._known
        self.information += trust * weighed @ weighed.T
        step = np.linalg.solve(self.information, pull)
        sigma = np.array([p.sigma for p in self.parameters])
        step *= min(1.0, LARGEST_STEP / max(1e-12, float(np.abs(step / sigma).max())))
        self._move(self.numbers + step)
        self.updates += 1

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {
            "numbers": torch.from_numpy(self.numbers.copy()),
            "information": torch.from_numpy(self.information.copy()),
            "updates": self.updates,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where it was; the twin gets the values of then. Raises BadInput for a state of other values."""
        if len(state["numbers"]) != len(self.numbers):
            raise BadInput(f"the state has {len(state['numbers'])} numbers; {len(self.numbers)} are refitted here")
        self.information = state["information"].numpy().astype(np.float64)
        self.updates = int(state["updates"])
        self._move(state["numbers"].numpy().astype(np.float64))

    def _move(self, numbers: np.ndarray) -> None:
        reach = np.array([REACH.get(p.name, np.inf) for p in self.parameters])
        limits = [(p.low, p.high) for p in self.parameters]
        low, high = (np.array(ends) for ends in zip(*limits, strict=True))
        self.numbers = np.clip(np.clip(numbers, self._start - reach, self._start + reach), low, high)
        put_values(self.twin, self.parameters, self.numbers)

    def _captures(self, shown: Tensor, mask: Tensor, exposure_s: Tensor, frames: Tensor) -> Captures:
        return Captures(
            np.zeros((len(frames), *shown.shape[-2:])),
            mask.detach().cpu().double().numpy()[None],
            np.zeros(len(frames), dtype=np.int64),
            exposure_s.detach().cpu().double().numpy(),
            frames.detach().cpu().numpy()[:, 0].astype(np.uint16),
            self.twin.settings.sensor.top_dn,
        )

    def _weight(self, foretold: np.ndarray, captures: Captures) -> np.ndarray:
        noise, signal = (of(foretold, self.twin.sensor) for of in (variance_of, signal_of))
        return np.asarray(captures.usable / np.sqrt(noise + (MODEL_ERROR * signal) ** 2))


def _parameters(twin: Twin, names: tuple[str, ...]) -> tuple[Parameter, ...]:
    sensor, found = twin.sensor, list[Parameter]()
    without = {
        "panel_gamma": twin.panel_lut is not None,
        "vignetting": sensor.flat_map is not None,
        "dark_offset": sensor.dark_map_dn is not None,
    }
    for given in names:
        name = LEAK if given == "log_contrast" else given
        if name not in KNOWN_TO and name != "photons_per_s":
            known = ", ".join(sorted({*KNOWN_TO, "photons_per_s", "log_contrast"} - {LEAK}))
            raise BadInput(f"a twin is not refitted in {given}; it can be in {known}")
        if without.get(name, False):
            continue
        owner = twin if hasattr(twin, given) else sensor
        values = np.atleast_1d(getattr(owner, given).detach().double().cpu().numpy())
        values = np.exp(-values) if name == LEAK else values
        for place, value in enumerate(values):
            sigma = KNOWN_TO.get(name, RELATIVE * float(value))
            low, high = LIMITS.get(name, (-np.inf, np.inf))
            index = place if len(values) > 1 else None
            found.append(Parameter(name, index, float(value), sigma, low, high, "", "the twin that was given"))
    if not found:
        raise BadInput("nothing is left to refit; name values that no map or table stands for")
    return tuple(found)
