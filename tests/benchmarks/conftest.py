"""Ratios of one run: how much slower our own way is than the fastest bare one.

A benchmark takes part by `benchmark.extra_info`: `ratio_group` (what is compared), `role` and `label`. `ours` is
compared with the fastest `floor`; an `other` is shown beside them. A method may be measured in several passes, so that
methods alternate and a busy machine hits all alike: passes of one label are pooled.
"""

from __future__ import annotations

import statistics
from typing import Any, Literal, NamedTuple

import pytest

Role = Literal["ours", "floor", "other"]


class Timing(NamedTuple):
    """Seconds per call: median of the medians of the passes, and the shortest call of all."""

    role: Role
    label: str
    median_s: float
    min_s: float


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print the table after the benchmarks."""
    session = getattr(config, "_benchmarksession", None)
    groups = timings(session.benchmarks if session else [])
    if not groups:
        return
    terminalreporter.section("ours / fastest floor, by median and by shortest call")
    for group, methods in groups.items():
        terminalreporter.write_line(ratio_line(group, methods))
        for method in sorted(methods, key=lambda m: m.median_s):
            terminalreporter.write_line(
                f"    {method.role:6} {method.label:44} median {method.median_s * 1e3:10.3f} ms"
                f"   min {method.min_s * 1e3:10.3f} ms"
            )


def timings(benchmarks: list[Any]) -> dict[str, list[Timing]]:
    """Pooled timings by ratio group, in the order of the run."""
    passes: dict[tuple[str, Role, str], list[tuple[float, float]]] = {}
    for benchmark in benchmarks:
        info = benchmark.extra_info
        if "ratio_group" in info and not benchmark.has_error and benchmark.stats.rounds:
            key = (info["ratio_group"], info["role"], info["label"])
            passes.setdefault(key, []).append((benchmark.stats.median, benchmark.stats.min))
    groups: dict[str, list[Timing]] = {}
    for (group, role, label), times in passes.items():
        median_s, min_s = statistics.median(m for m, _ in times), min(low for _, low in times)
        groups.setdefault(group, []).append(Timing(role, label, median_s, min_s))
    return groups


def ratio_line(group: str, methods: list[Timing]) -> str:
    """One line: the two ratios, and which floor was the fastest."""
    ours, floors = ([m for m in methods if m.role == role] for role in ("ours", "floor"))
    if not ours or not floors:
        return f"{group}: no ratio, since {'ours' if not ours else 'a floor'} was not measured"
    by_median, by_min = min(floors, key=lambda m: m.median_s), min(floors, key=lambda m: m.min_s)
    return (
        f"{group}: {ours[0].median_s / by_median.median_s:.2f} by median, {ours[0].min_s / by_min.min_s:.2f} by min "
        f"(fastest floor: {by_median.label})"
    )
