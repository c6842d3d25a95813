"""How fast frames are simulated and a camera learns, by size, next to the bare arithmetic; and the memory for it.

    python benchmarks/scaling.py [--rounds 5]

Three sizes: 63/32 and 127/64 in batches of 32 grey scenes, and 480x270 in colour, 4 at a time, behind a mask whose
shadow spans the sensor, raw Bayer frames. Simulated capture is what `Simulation.frames` does for new scenes: panel,
PSF, image, photons, noise, ADC. Training is that with slopes, plus the classifier and both optimisers. The floors are
bare rfft2, multiply, irfft2 on the smallest grid without wrap-around, and torch.nn.functional.conv2d. Methods take
turns, one thread; the least of all rounds is told, and its ratio to the Fourier floor. Memory (Linux): the most that a
fresh process held while it ran, less what it held after its imports: scenes, camera and classifier are in it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labctl.rig_file import find_rig, load_rig
from protocols.models import Classifier, SmallResidual
from protocols.simulation import ExposureRule, Simulation
from sim.designs.learned import Learned
from sim.noise import TorchDraws
from sim.optics.convolution import transform_shape

CLASSES = 11
SLOW_S = 2.0
"""From this time on a method has one turn only."""


@dataclass(frozen=True)
class Size:
    """scene: (N, C, H, W). cells: of the mask. changes: of the rig `sim`."""

    name: str
    scene: tuple[int, int, int, int]
    cells: tuple[int, int]
    changes: tuple[str, ...] = ()


def _grey(side: int, cells: int) -> tuple[str, ...]:
    panel, frame = 4 * cells, side - cells + 1
    return (
        f"twin.panel.shape=[{panel}, {panel}]",
        f"twin.panel.stop_px=[{panel}, {panel}]",
        f"twin.monitor.shape=[{side}, {side}]",
        f"twin.monitor.view_px=[{side}, {side}]",
        f"twin.sensor.shape=[{frame}, {frame}]",
    )


SIZES = (
    Size("63/32", (32, 1, 63, 63), (32, 32)),
    Size("127/64", (32, 1, 127, 127), (64, 64), _grey(127, 64)),
    Size(
        "480x270 RGB",
        (4, 3, 270, 480),
        (270, 480),
        (
            "twin.optics.border=same",
            "twin.panel.shape=[1080, 1920]",
            "twin.panel.stop_px=[1080, 1920]",
            "twin.monitor.shape=[270, 480]",
            "twin.monitor.view_px=[270, 480]",
            "twin.sensor.shape=[270, 480]",
            "twin.sensor.colour=rggb",
        ),
    ),
)


class Camera:
    """Everything that a size needs, ready to run."""

    def __init__(self, size: Size) -> None:
        torch.manual_seed(0)
        spec = load_rig(find_rig("sim"), overrides=list(size.changes))
        self.simulation = Simulation(spec, ExposureRule(0.9))
        self.scenes = torch.rand(size.scene)
        self.design = Learned().build(size.cells, 0)
        self.labels = torch.randint(CLASSES, (size.scene[0],))
        frames = self.simulation.frames(self.scenes, self.design.mask().detach())
        shape = (frames.shape[-2], frames.shape[-1])
        self.classifier = Classifier(SmallResidual().build(shape, CLASSES), shape)
        self.classifier.normalisation.fit(frames)
        self.optimisers = [
            torch.optim.AdamW(self.classifier.parameters(), lr=3e-3),
            torch.optim.Adam(self.design.parameters(), lr=0.03),
        ]
        self.draws = TorchDraws(torch.Generator().manual_seed(0))
        twin = self.simulation.twin
        with torch.no_grad():
            psf = twin.psf(self.design.mask())
        self.psf: Tensor = psf.reshape(1, 1, *psf.shape[-2:])
        self.start, self.frame = twin._window(size.scene[2:], (psf.shape[-2], psf.shape[-1]), None, None)

    @torch.no_grad()
    def capture(self) -> None:
        """Simulated capture of one batch."""
        self.simulation.frames(self.scenes, self.design.mask(), draws=self.draws)

    def train(self) -> None:
        """One step of mask and classifier."""
        self.classifier.train()
        frames = self.simulation.frames(self.scenes, self.design.mask(), draws=self.draws)
        loss = nn.functional.cross_entropy(self.classifier(frames), self.labels)
        for optimiser in self.optimisers:
            optimiser.zero_grad(set_to_none=True)
        loss.backward()
        for optimiser in self.optimisers:
            optimiser.step()

    @torch.no_grad()
    def fourier(self) -> None:
        """The floor: the image alone."""
        self._fourier(self.scenes, self.psf)

    def fourier_with_slopes(self) -> None:
        """The floor with the slope of the PSF."""
        psf = self.psf.clone().requires_grad_(True)
        self._fourier(self.scenes, psf).sum().backward()

    @torch.no_grad()
    def conv2d(self) -> None:
        """The same by torch.nn.functional.conv2d, every picture one group."""
        (top, left), (rows, columns) = self.start, self.frame
        height, width = self.psf.shape[-2:]
        low, right = rows + top - self.scenes.shape[-2], columns + left - self.scenes.shape[-1]
        wide = F.pad(self.scenes, (width - 1 - left, right, height - 1 - top, low)).flatten(0, 1)[None]
        kernel = self.psf[0].flip(-2, -1).expand(wide.shape[1], 1, height, width)
        F.conv2d(wide, kernel, groups=wide.shape[1])

    def _fourier(self, scenes: Tensor, psf: Tensor) -> Tensor:
        grid = transform_shape(scenes.shape[-2:], psf.shape[-2:], self.start, self.frame)
        (top, left), (rows, columns) = self.start, self.frame
        image = torch.fft.irfft2(torch.fft.rfft2(scenes, s=grid) * torch.fft.rfft2(psf, s=grid), s=grid)
        return image[..., top : top + rows, left : left + columns]


METHODS = ("capture", "train", "fourier", "fourier_with_slopes", "conv2d")


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory-of", nargs=2, metavar=("SIZE", "METHOD"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.memory_of:
        print(json.dumps(memory_of(*options.memory_of)))  # noqa: T201
        return
    print("| size | what | images/s | time / bare Fourier | memory |\n|---|---|---|---|---|")  # noqa: T201
    for size in SIZES:
        least = timed(Camera(size), options.rounds)
        for name, floor in (
            ("capture", "fourier"), ("train", "fourier_with_slopes"), ("fourier", "fourier"),
            ("fourier_with_slopes", "fourier_with_slopes"), ("conv2d", "fourier"),
        ):  # fmt: skip
            rate, ratio = size.scene[0] / least[name], least[name] / least[floor]
            print(f"| {size.name} | {name} | {rate:.3g} | {ratio:.3g} | {_memory(size, name):.0f} MiB |")  # noqa: T201


def timed(camera: Camera, rounds: int) -> dict[str, float]:
    """Least time of every method, in seconds; they take turns."""
    calls: dict[str, Callable[[], None]] = {name: getattr(camera, name) for name in METHODS}
    least: dict[str, float] = {}
    for number in range(rounds + 1):
        for name, call in calls.items():
            if number > 1 and least[name] > SLOW_S:
                continue
            began = time.perf_counter()
            call()
            took = time.perf_counter() - began
            if number:  # the first turn warms up
                least[name] = min(took, least.get(name, took))
    return least


def memory_of(name: str, method: str) -> dict[str, Any]:
    """What one method needs at most in this process, in MiB, beyond what stood there before."""
    before = _resident_mib("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    camera = Camera(next(size for size in SIZES if size.name == name))
    getattr(camera, method)()
    return {"before": before, "peak": _resident_mib("VmHWM")}


def _memory(size: Size, method: str) -> float:
    command = [sys.executable, __file__, "--memory-of", size.name, method]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    said = json.loads(done.stdout)
    return float(said["peak"] - said["before"])


def _resident_mib(which: str) -> float:
    """`getrusage` would tell the peak of the process that started this one."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(which)) / 1024


if __name__ == "__main__":
    main()
