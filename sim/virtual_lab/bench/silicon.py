"""From photons to DN as silicon and a 12-bit ADC do it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sim.virtual_lab.bench.settings import TOP_DN, Silicon

Array = npt.NDArray[np.float64]


class Chip:
    """One sensor with its fixed pattern, which is drawn from (seed, camera)."""

    def __init__(self, silicon: Silicon, *, seed: int, camera: int) -> None:
        self._silicon, self._seed, self._camera = silicon, seed, camera
        rows, columns = silicon.shape
        gains, offsets, lines = (np.random.default_rng((seed, camera, part)) for part in range(3))
        self._gain = np.maximum(0.0, 1 + silicon.prnu * gains.standard_normal((rows, columns)))
        self._gain *= _vignetting(silicon)
        pixel = silicon.dsnu * offsets.standard_normal((rows, columns))
        line = silicon.column_offset * lines.standard_normal(columns)
        self._offset_dn = TOP_DN * (silicon.dark_offset + pixel + line)

    def read_out(
        self,
        photons_per_s: Array,
        *,
        exposure_s: float,
        gain_db: float,
        black_level_dn: float,
        frame: tuple[int, int] | None,
    ) -> npt.NDArray[np.uint16]:
        """(rows, columns) DN, 0..4095. frame: (frame id, start in ns) decides the noise; None leaves it out.

        Order: quantum efficiency and pixel gain, dark current, shot noise, full well, read noise, gain, offsets, ADC.
        """
        silicon = self._silicon
        electrons = photons_per_s * exposure_s * silicon.quantum_efficiency * self._gain
        electrons += silicon.dark_current_e_per_s * exposure_s
        draws = None if frame is None else np.random.default_rng((self._seed, self._camera, *frame))
        if draws is not None:
            electrons = draws.poisson(electrons).astype(np.float64)
        electrons = np.minimum(electrons, silicon.full_well_e)
        if draws is not None:
            electrons += silicon.read_noise_e * draws.standard_normal(electrons.shape)
        dn = electrons * silicon.gain_dn_per_e * 10 ** (gain_db / 20) + self._offset_dn + black_level_dn
        return np.clip(np.rint(dn), 0, TOP_DN).astype(np.uint16)


def _vignetting(silicon: Silicon) -> Array:
    """(rows, columns) share of light that is left; 1 in the centre."""
    rows, columns = silicon.shape
    y, x = (np.arange(n) - (n - 1) / 2 for n in (rows, columns))
    corner = ((silicon.vignetting_px[0] - 1) / 2) ** 2 + ((silicon.vignetting_px[1] - 1) / 2) ** 2
    if silicon.vignetting == 0 or corner == 0:
        return np.ones((rows, columns))
    return np.maximum(0.0, 1 - silicon.vignetting * (y[:, None] ** 2 + x[None, :] ** 2) / corner)
