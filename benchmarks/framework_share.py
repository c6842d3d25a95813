"""How much of the quickstart's time is the framework's own, and not imports, data, training, optics, metrics, report.

    python benchmarks/framework_share.py

Runs the quickstart once as a user does (child process and all), then once in a single process with a clock round the
scientific functions. The framework's share is what no clock has seen, plus what the child process costs on top.
"""

from __future__ import annotations

import functools
import importlib
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

QUICKSTART = Path(__file__).parent.parent / "configs" / "protocols" / "quickstart.yaml"
CLOCKED = {
    "training": ["protocols.training_loop.run_loop"],
    "optics": [
        "sim.world.World.expose",
        "protocols.simulation.Simulation.all_frames",
        "protocols.simulation.Simulation.__init__",
        "protocols.simulation.Simulation.shown",
    ],
    "metrics": [
        "protocols.metrics.accuracy_interval",
        "protocols.metrics.blurriness",
        "protocols.model_file.answers",
    ],
    "data": ["protocols.data.Digits.load"],
    "report": ["protocols.report.step.Report.run"],
    "framework": ["labctl.runner.Runner._on_message"],
}
HEAVY = {
    "parent": ("torch", "sklearn.datasets"),
    "child": ("torch", "sklearn.datasets", "skimage.measure", "matplotlib.figure"),
}
"""What each of the two processes imports; the child cannot start before the parent has planned."""


class Clock:
    """Exclusive time per name: a clocked function inside another stops the outer clock."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._stack: list[str] = []
        self._since = 0.0

    def wrap(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function` with its time counted for `name`."""

        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            self._switch()
            self._stack.append(name)
            try:
                return function(*args, **kwargs)
            finally:
                self._switch()
                self._stack.pop()

        return timed

    def _switch(self) -> None:
        now = time.perf_counter()
        if self._stack:
            self.seconds[self._stack[-1]] += now - self._since
        self._since = now


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LABCTL_STATE"] = f"{folder}/state"
        began = time.perf_counter()
        command = [sys.executable, "-m", "labctl", "run", str(QUICKSTART), "--out", f"{folder}/real"]
        subprocess.run(command, check=True, capture_output=True)
        real = time.perf_counter() - began

        imports = {who: _import_seconds(modules) for who, modules in HEAVY.items()}
        for module in {module for modules in HEAVY.values() for module in modules}:
            importlib.import_module(module)

        clock = Clock()
        for name, paths in CLOCKED.items():
            for path in paths:
                _clock_at(path, name, clock)
        import labctl
        from labctl.runner import Runner

        Runner._run_in_child = Runner._run_on_host  # type: ignore[method-assign]
        Runner._warm_child = lambda self: None  # type: ignore[method-assign]
        began = time.perf_counter()
        run = labctl.run_protocol(QUICKSTART, out=f"{folder}/single")
        single = time.perf_counter() - began
        assert run.status == "finished", run.outcome
    seconds = dict(clock.seconds)
    own = single - sum(seconds.values()) + seconds.pop("framework", 0.0)
    named = {f"imports of heavy packages, {who}": value for who, value in imports.items()}
    rows = {**named, **seconds, "framework, in the steps": own}
    for name, value in rows.items():
        print(f"{name:42s} {value:7.2f} s  {100 * value / real:5.1f} % of the real run")  # noqa: T201
    print(f"{'real run (two processes)':42s} {real:7.2f} s")  # noqa: T201
    extra = max(0.0, real - single - sum(imports.values()))
    print(f"framework's own share: {100 * (own + extra) / real:.1f} % ({own:.2f} s in the steps, {extra:.2f} s around)")  # noqa: T201


def _import_seconds(modules: tuple[str, ...]) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-P", "-c", f"import {', '.join(modules)}"], check=True)
    return time.perf_counter() - began


def _clock_at(path: str, name: str, clock: Clock) -> None:
    parts = path.split(".")
    depth = 3 if parts[-2][0].isupper() else 2
    module = importlib.import_module(".".join(parts[:-1] if depth == 2 else parts[:-2]))
    owner = module if depth == 2 else getattr(module, parts[-2])
    setattr(owner, parts[-1], clock.wrap(name, getattr(owner, parts[-1])))


if __name__ == "__main__":
    main()
