"""What a study found: accuracy by design with intervals, response times, and the curve against blurriness."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from labctl.errors import BadInput
from labctl.study.curve import Curve, fit_curve, why_no_curve
from labctl.study.folder import Records

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

LEVEL = 0.95
RESAMPLES = 2000
CURVE_RESAMPLES = 200
FEW_PARTICIPANTS = 8
"""With fewer, a bootstrap over participants gives intervals that are too narrow."""

BINS = 6
POINTS = 81

BOOTSTRAP = "bootstrap over participants"
WILSON = "Wilson over answers"


@dataclass(frozen=True)
class Share:
    """A share of right answers with its 95 % interval, and where the interval comes from."""

    correct: int
    answers: int
    participants: int
    accuracy: float
    low: float
    high: float
    method: str


@dataclass(frozen=True)
class DesignFound:
    """What was found for one design."""

    design: str
    share: Share
    above_chance: bool
    """The interval lies above 1/choices: people can tell more than nothing."""

    median_response_ms: float | None
    """Of answers that were not interrupted, right and wrong; None when all were."""

    blurriness: float | None
    """Mean over the frames that were shown."""


@dataclass(frozen=True)
class Bin:
    """Answers of neighbouring blurriness."""

    blurriness: float
    share: Share


@dataclass(frozen=True)
class Band:
    """The fitted curve and its 95 % band, for drawing."""

    blurriness: list[float]
    accuracy: list[float]
    low: list[float]
    high: list[float]


@dataclass(frozen=True)
class StudyAnalysis:
    """All of it; `dump` makes it JSON."""

    participants: int
    finished: int
    answers: int
    choices: int
    chance: float
    overall: Share
    median_response_ms: float | None
    designs: list[DesignFound]
    bins: list[Bin]
    curve: Curve | None
    middle_interval: tuple[float, float] | None
    """95 % interval of the blurriness half-way between the best and chance."""

    band: Band | None
    no_curve: str | None
    """Why there is no curve, in words."""

    careful: list[str] = field(default_factory=list)

    def dump(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Answered:
    """The answers of a study as columns, in any order; practice is left out."""

    participant: npt.NDArray[np.str_]
    design: npt.NDArray[np.str_]
    correct: npt.NDArray[np.bool_]
    response_ms: FloatArray
    interrupted: npt.NDArray[np.bool_]
    blurriness: FloatArray
    """NaN where it is unknown."""

    def __len__(self) -> int:
        return len(self.correct)

    def part(self, rows: npt.NDArray[Any]) -> Answered:
        """Some rows."""
        return Answered(**{name: values[rows] for name, values in self.__dict__.items()})


def analyse_study(folder: Path) -> StudyAnalysis:
    """Raises BadInput when `folder` is no study or has no answers, RunFailed when its records are damaged."""
    records = Records(folder)
    rows = records.rows()
    if not rows:
        raise BadInput(f"{folder} has no answers yet; let somebody take part: `labctl study ... --out {folder}`")
    answered = Answered(
        participant=np.array([row["participant"] for row in rows]),
        design=np.array([row["design"] for row in rows]),
        correct=np.array([row["correct"] == 1 for row in rows]),
        response_ms=np.array([row["response_ms"] for row in rows], dtype=np.float64),
        interrupted=np.array([row["interrupted"] == 1 for row in rows]),
        blurriness=np.array(
            [np.nan if row["blurriness"] == "" else row["blurriness"] for row in rows], dtype=np.float64
        ),
    )
    finished = sum(
        len(records.answers.get(code, ())) == participant.questions
        for code, participant in records.participants.items()
    )
    return analyse(answered, choices=records.facts.settings.choices, begun=len(records.participants), finished=finished)


def analyse(
    answered: Answered, *, choices: int, begun: int, finished: int, resamples: int = CURVE_RESAMPLES
) -> StudyAnalysis:
    """The same answers give the same numbers.

    begun, finished: participants who consented, and who answered everything. resamples: refits behind the band.
    """
    chance = 1 / choices
    people = len(set(answered.participant.tolist()))
    designs = sorted(set(answered.design.tolist()))
    found = [_of_design(answered.part(answered.design == design), design, chance) for design in designs]
    no_curve = why_no_curve(answered.blurriness, answered.correct)
    curve, middle, band = (None, None, None) if no_curve else _curve(answered, chance, resamples)
    return StudyAnalysis(
        participants=people,
        finished=finished,
        answers=len(answered),
        choices=choices,
        chance=chance,
        overall=share_of(answered.correct, answered.participant),
        median_response_ms=_median_ms(answered),
        designs=sorted(found, key=lambda one: (one.blurriness is None, one.blurriness or 0.0, one.design)),
        bins=_bins(answered),
        curve=curve,
        middle_interval=middle,
        band=band,
        no_curve=no_curve,
        careful=_careful(answered, found, curve, people, begun, finished),
    )


def share_of(correct: npt.NDArray[np.bool_], participant: npt.NDArray[np.str_]) -> Share:
    """Share of right answers. Participants and their answers are both drawn at random: people are resampled whole, and
    each brings all of its answers, so both kinds of spread are in the interval.

    Where that cannot be, with one participant or when all have the same share, the interval is that of Wilson over all
    answers, which takes them for independent.
    """
    people, which = np.unique(participant, return_inverse=True)
    right = np.bincount(which, weights=correct, minlength=len(people))
    asked = np.bincount(which, minlength=len(people))
    count, total = int(correct.sum()), len(correct)
    if len(people) > 1 and np.ptp(right / asked) > 0:
        drawn = np.random.default_rng(0).integers(len(people), size=(RESAMPLES, len(people)))
        means = right[drawn].sum(axis=1) / asked[drawn].sum(axis=1)
        low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return Share(count, total, len(people), count / total, float(low), float(high), BOOTSTRAP)
    low, high = wilson(count, total)
    return Share(count, total, len(people), count / total, low, high, WILSON)


def wilson(count: int, total: int) -> tuple[float, float]:
    """95 % interval of a share of independent answers. [Wilson 1927]"""
    from scipy.stats import binomtest

    interval = binomtest(count, total).proportion_ci(LEVEL, method="wilson")
    return float(interval.low), float(interval.high)


def _of_design(answered: Answered, design: str, chance: float) -> DesignFound:
    share = share_of(answered.correct, answered.participant)
    blurriness = answered.blurriness
    known = blurriness[~np.isnan(blurriness)]
    return DesignFound(
        design=design,
        share=share,
        above_chance=share.low > chance,
        median_response_ms=_median_ms(answered),
        blurriness=float(known.mean()) if len(known) else None,
    )


def _median_ms(answered: Answered) -> float | None:
    times = answered.response_ms[~answered.interrupted]
    return float(np.median(times)) if len(times) else None


def _bins(answered: Answered) -> list[Bin]:
    """About equally many answers each."""
    known = np.flatnonzero(~np.isnan(answered.blurriness))
    if len(known) == 0:
        return []
    order = known[np.argsort(answered.blurriness[known], kind="stable")]
    count = max(1, min(BINS, len(order) // 5))
    parts = [answered.part(rows) for rows in np.array_split(order, count)]
    return [Bin(float(part.blurriness.mean()), share_of(part.correct, part.participant)) for part in parts]


def _curve(answered: Answered, chance: float, resamples: int) -> tuple[Curve, tuple[float, float], Band]:
    """The fit, and how it varies when other people take part, or, of one person, when other answers are given."""
    x, correct = answered.blurriness, answered.correct
    curve = fit_curve(x, correct, chance)
    at = np.linspace(float(x.min()), float(x.max()), POINTS)
    rng = np.random.default_rng(0)
    people = np.unique(answered.participant)
    rows_of = [np.flatnonzero(answered.participant == one) for one in people]
    values, middles = [], []
    for _ in range(resamples):
        if len(people) > 1:
            rows = np.concatenate([rows_of[one] for one in rng.integers(len(people), size=len(people))])
        else:
            rows = rng.integers(len(x), size=len(x))
        if why_no_curve(x[rows], correct[rows]) is None:
            refit = fit_curve(x[rows], correct[rows], chance, near=curve)
            values.append(refit(at))
            middles.append(refit.middle)
    ends = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    low, high = np.quantile(np.stack(values or [curve(at)]), ends, axis=0)
    middle_low, middle_high = np.quantile(middles or [curve.middle], ends)
    band = Band(at.tolist(), curve(at).tolist(), low.tolist(), high.tolist())
    return curve, (float(middle_low), float(middle_high)), band


def _careful(
    answered: Answered,
    found: Sequence[DesignFound],
    curve: Curve | None,
    people: int,
    begun: int,
    finished: int,
) -> list[str]:
    """What a reader must know before the numbers are quoted."""
    said = []
    if people == 1:
        said.append("there is one participant: the intervals are about this person's answers, not about people")
    elif people < FEW_PARTICIPANTS:
        text = f"there are {people} participants; a bootstrap over fewer than {FEW_PARTICIPANTS} is too narrow"
        said.append(text)
    if people > 1:
        alike = [one.design for one in found if one.share.method == WILSON]
        if alike:
            said.append(
                f"all participants have the same share with {', '.join(alike)}: the interval there is that of Wilson, "
                "which takes all answers for independent"
            )
    if finished < begun:
        said.append(f"{begun - finished} of {begun} participants did not answer everything; what they answered counts")
    if answered.interrupted.any():
        count = int(answered.interrupted.sum())
        said.append(f"{count} answers were interrupted (reload, other window): they count, but their times do not")
    if curve is not None and curve.slope <= 0:
        said.append("the curve does not fall with blur: blurriness does not explain who was recognised here")
    x = answered.blurriness
    if curve is not None and not float(np.nanmin(x)) <= curve.middle <= float(np.nanmax(x)):
        said.append("the middle of the curve lies outside what was shown, so its place is a guess")
    return said
