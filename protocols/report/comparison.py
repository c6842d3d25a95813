"""The section on accuracy: the table of all designs, and by how much the learned mask is better or worse."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from protocols.metrics import Interval
from protocols.report import tables
from protocols.report.optics import Pairs
from protocols.report.page import Block, Picture, Table, Text
from protocols.report.tables import Evidence, Score


def accuracy_section(evidence: Evidence, pairs: Pairs) -> list[Block]:
    """Identification by design and stage, differences between designs, and between stages."""
    found = tables.scores(evidence)
    if not evidence.evaluates:
        return []
    if not found:
        return [Text("No evaluation has finished, so there is no accuracy to tell.", "missing")]
    light = exposure_words(found)
    return [
        Text(_meaning(evidence)),
        *([Text(light)] if light else []),
        _identification(evidence, found),
        _figure(found),
        *_learned_against_others(evidence, found),
        *_between_stages(evidence, found),
    ]


def exposure_words(found: Sequence[Score]) -> str | None:
    """Whether light is free or accounted for in simulation; None where the evaluations do not say."""
    rules = {m["exposure"] for s in found if s.stage == "simulated" for m in s.metrics.values() if "exposure" in m}
    if not rules:
        return None
    if rules == {"auto"}:
        return (
            "Exposure in simulation: light is free. Each mask is exposed so that a white scene fills the sensor to the "
            "same level, however long that takes; a small hole costs time, which is not counted, and no noise."
        )
    if len(rules) == 1:
        return (
            f"Exposure in simulation: light is accounted for. All masks get the same {tables.ms(rules.pop())}, "
            "so a mask that passes less light gives darker frames, in which noise weighs more."
        )
    told = sorted(str(rule) for rule in rules)
    return f"Exposure in simulation differs between designs or evaluations ({', '.join(told)}): compare with care."


def verdict(design: str, other: str, gap: Interval) -> str:
    """In words whether `design` is better than `other`. gap: accuracy of `design` minus that of `other`, paired."""
    points = tables.points(gap)
    if gap.low > 0 or gap.high < 0:
        size, interval = points.split(" ", 1)
        return f"{design} is {size.lstrip('+−')} points {'better' if gap.low > 0 else 'worse'} than {other} {interval}"
    return f"{design} and {other} cannot be told apart: {points} points"


def learned_designs(evidence: Evidence) -> list[str]:
    """Designs whose mask moved in training."""
    designs = evidence.protocol.designs
    return [name for name in evidence.protocol.compared if not _stands_still(designs[name])]


def own_start(evidence: Evidence, learned: str) -> str | None:
    """The design that stands still at the very masks from which `learned` started, for every seed; None without one."""
    for other in evidence.protocol.compared:
        if _stands_still(evidence.protocol.designs[other]) and all(
            _same(_start(evidence, learned, seed), _start(evidence, other, seed))
            for seed in evidence.protocol.file.seeds
        ):
            return other
    return None


def _identification(evidence: Evidence, found: Sequence[Score]) -> Table:
    columns = tables.columns_of(found)
    by_place = {(score.design, score.step): score for score in found}
    white = any(score.mean("white_e") is not None for score in found)
    rows = []
    for design in _designs(evidence, found):
        own = [by_place.get((design, step)) for step, _, _ in columns]
        here = [score for score in own if score is not None]
        simulated = next((s for s in here if s.stage == "simulated"), None)
        measured = next((s for s in here if s.stage != "simulated"), None)
        rows.append(
            [
                design,
                *("–" if s is None else tables.percent(s.interval) for s in own),
                tables.share(here[0].mean("majority")),
                tables.share(here[0].mean("aperture_ratio")),
                tables.share(here[0].mean("light_throughput")),
                *([_electrons(here[0].mean("white_e"))] if white else []),
                _blur(simulated, "blurriness_noise_free"),
                _blur(simulated, "blurriness"),
                *([_blur(measured, "blurriness")] if _captured(found) else []),
            ]
        )
    seeds = sorted({seed for score in found for seed in score.answers})
    over = f"means over {len(seeds)} seeds" if len(seeds) > 1 else f"seed {seeds[0]}"
    items = " or ".join(map(str, sorted({len(a.labels) for score in found for a in score.answers.values()})))
    head = [
        "design",
        *(heading for _, _, heading in columns),
        "majority",
        "open fraction",
        "light",
        *(["white pixel (e−)"] if white else []),
        "blur, noise-free",
        "blur, with noise",
        *(["blur, captured"] if _captured(found) else []),
    ]
    return Table(
        head,
        rows,
        f"Test accuracy, {over}, with 95 % bootstrap intervals over the {items} test items. The interval says how "
        "these trained cameras would do on other items of the same kind; what other training seeds would bring is not "
        "in it. It has no width where every answer was right. Intervals wider than 10 points are written "
        "without decimals. Majority: always naming the most frequent training class. Open fraction: mean "
        "transmittance of the mask; light: what passes it after panel and optics, against the open mask. "
        + ("White pixel: electrons that a white scene makes in a pixel, before any full well. " if white else "")
        + "Blur: 0 sharp to 1 [Crete et al. 2007], of simulated frames without noise and with it"
        + (", and of captured frames, which have noise" if _captured(found) else "")
        + "; noise looks sharp.",
    )


def _figure(found: Sequence[Score]) -> Picture:
    from protocols.report.figures import Dot, accuracy_figure

    headings = {step: heading for step, _, heading in tables.columns_of(found)}
    dots = [
        Dot(
            s.design,
            s.stage,
            headings[s.step],
            s.interval.mean,
            s.interval.low,
            s.interval.high,
            tuple(float(a.correct.mean()) for a in s.answers.values()),
        )
        for s in found
    ]
    majority = sorted({round(m["majority"], 6) for s in found for m in s.metrics.values()})
    seeds = {seed for score in found for seed in score.answers}
    return Picture(
        "accuracy",
        accuracy_figure(dots, majority),
        "Test accuracy by design. Bars are 95 % intervals"
        + (", small dots single seeds" if len(seeds) > 1 else "")
        + "; dashed: majority baseline.",
    )


def _learned_against_others(evidence: Evidence, found: Sequence[Score]) -> list[Block]:
    """What learning brought: each learned design against its own start first, then against all others."""
    blocks: list[Block] = []
    by_place = {(score.design, score.step): score for score in found}
    columns = tables.columns_of(found)
    for learned in [name for name in learned_designs(evidence) if any(s.design == name for s in found)]:
        start = own_start(evidence, learned)
        others = [name for name in _designs(evidence, found) if name != learned]
        others.sort(key=lambda name: name != start)
        rows, paragraphs = [], []
        for other in others:
            cells, items, sentences = [], set[int](), []
            name = f"{other} (its own start)" if other == start else other
            for step, _, heading in columns:
                a, b = by_place.get((learned, step)), by_place.get((other, step))
                if a is None or b is None:
                    cells.append("–")
                    continue
                gap, count = tables.difference(a, b)
                items.add(count)
                cells.append(f"{tables.points(gap)}{_short_verdict(gap)}")
                sentences.append(f"{heading}, {verdict(learned, name, gap)}")
            if other in (start, "disc") and sentences:
                paragraphs.append(Text(_capital("; ".join(sentences)) + "."))
            rows.append([f"{learned} − {other}", *cells, " or ".join(map(str, sorted(items)))])
        if start is None:
            text = (
                f"No design of this run stands still at the start of {learned}, so what learning the mask brought is "
                "not known; add one with the same settings and `freeze_from: 0`."
            )
            blocks.append(Text(text))
        blocks += paragraphs
        if rows:
            blocks.append(
                Table(
                    ["difference (points)", *(heading for _, _, heading in columns), "paired items"],
                    rows,
                    f"Accuracy of {learned} minus that of each other design, in percentage points, with 95 % "
                    "intervals. Paired: both answered the same test items with the same training seed. An interval "
                    f"that holds 0 does not tell the two apart; else the word says what {learned} is. Each "
                    "interval stands for itself; of twenty, one errs.",
                )
            )
    return blocks


def _between_stages(evidence: Evidence, found: Sequence[Score]) -> list[Block]:
    told = {design: tables.changes(found, design) for design in _designs(evidence, found)}
    words = list(dict.fromkeys(word for change in told.values() for word in change))
    if not words:
        return []
    rows = [
        [d, *(tables.points(c[w][0]) if w in c else "–" for w in words), str(min(n for _, n in c.values()))]
        for d, c in told.items()
        if c
    ]
    return [
        Table(
            ["design", *words, "paired items"],
            rows,
            "Differences of accuracy in percentage points, with 95 % intervals. Paired: both stages answered "
            "the same test items of the same seed. Lost: as captured minus simulated. Change: after "
            "fine-tuning minus as captured. Left: after fine-tuning minus simulated. An interval that holds 0 "
            "does not show a difference.",
        )
    ]


def _meaning(evidence: Evidence) -> str:
    rig, name = evidence.rig, evidence.rig.name
    if rig.nature == "emulated":
        return (
            "No light was involved: “captured” was measured through the real drivers on the virtual lab of rig "
            f"{name}, whose bench computes the light by itself and has errors that the trainer does not know. "
            "“Simulated” is measured in the twin, the model that training uses."
        )
    if rig.nature == "replayed":
        return (
            f"“Captured” was played back from a recording of rig {name}. “Simulated” is measured in the twin, the "
            "model that training uses."
        )
    if rig.nature == "real":
        return (
            f"“Simulated” is measured in the twin, the model of rig {name} that training uses. “Captured” is "
            f"measured by the camera of the REAL rig {name}."
        )
    world = getattr(rig.world, "type", None)
    truth = {
        "nominal": "whose world is the twin itself, with noise",
        "as-built": "whose errors (alignment, panel response, stray light, fixed pattern) the trainer does not know",
    }.get(str(world), f"whose world is '{world}'")
    return (
        f"No light was involved: “captured” means measured on the simulated rig '{name}', {truth}. “Simulated” is "
        "measured in the twin that training uses; “fine-tuned” after learning on from captured training frames."
    )


def _designs(evidence: Evidence, found: Sequence[Score]) -> list[str]:
    return [design for design in evidence.designs if any(s.design == design for s in found)]


def _captured(found: Sequence[Score]) -> bool:
    return any(score.stage != "simulated" for score in found)


def _stands_still(design: Any) -> bool:
    return not design.learnable or getattr(design, "freeze_from", None) == 0


def _start(evidence: Evidence, design: str, seed: int) -> tuple[Any, str]:
    """Mask and, of a camera for clips, what its electronics are set to."""
    built = evidence.protocol.designs[design].build(evidence.protocol.grids()[1], seed)
    return built.settings().get("mask"), repr(built.electronics()) if hasattr(built, "electronics") else ""


def _same(a: tuple[Any, str], b: tuple[Any, str]) -> bool:
    return a[1] == b[1] and np.array_equal(a[0], b[0])


def _short_verdict(gap: Interval) -> str:
    return " better" if gap.low > 0 else " worse" if gap.high < 0 else ""


def _blur(score: Score | None, name: str) -> str:
    value = None if score is None else score.mean(name)
    return "–" if value is None else f"{value:.2f}"


def _electrons(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
