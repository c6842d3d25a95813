"""What a run says at its end: one number for each evaluation, none hidden behind another of the same stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from labctl.cli.tables import accuracy_table, result_table


def evaluation(step: str, stage: str, seed: int, accuracy: float) -> dict[str, Any]:
    metrics = {"accuracy": accuracy, "accuracy_low": 0.0, "accuracy_high": 1.0, "majority": 0.1, "stage": stage}
    return {"name": f"{step}/learned/seed{seed}", "type": "evaluate", "status": "finished", "metrics": metrics}


def run_of(*steps: Mapping[str, Any], name: str = "loop") -> dict[str, Any]:
    return {"name": name, "rig": "as-built", "steps": list(steps)}


def columns(table: Table | None) -> dict[str, Sequence[str]]:
    assert table is not None
    return {str(column.header): [str(cell) for cell in column.cells] for column in table.columns}


def test_two_evaluations_of_one_stage_stand_in_columns_of_their_own():
    run = run_of(
        evaluation("simulated", "simulated", 0, 0.99),
        evaluation("captured", "captured", 0, 0.12),
        evaluation("looped", "captured", 0, 0.71),
    )
    told = columns(result_table(run))
    assert list(told) == ["design / seed", "simulated", "captured (captured)", "captured (looped)"]
    assert told["captured (captured)"][0].startswith("0.120")
    assert told["captured (looped)"][0].startswith("0.710")


def test_the_mean_over_seeds_does_not_mix_evaluations():
    run = run_of(*(evaluation(step, "captured", seed, value) for seed in (0, 1) for step, value in STEPS))
    told = columns(result_table(run))
    assert [told[f"captured ({step})"][-1] for step, _ in STEPS] == ["0.100", "0.700"]


def test_runs_are_compared_evaluation_by_evaluation():
    both = run_of(*(evaluation(step, "captured", 0, value) for step, value in STEPS))
    one = run_of(evaluation("captured", "captured", 0, 0.5), name="plain")
    told = columns(accuracy_table([both, one]))
    assert told["stage"] == ["captured (captured)", "captured (looped)"]
    assert told["1: loop on as-built"] == ["0.100", "0.700"]
    assert told["2: plain on as-built"] == ["0.500", "–"]


def test_a_stage_that_is_evaluated_once_keeps_its_plain_name_and_no_evaluation_makes_no_table():
    assert list(columns(result_table(run_of(evaluation("eval", "finetuned", 0, 0.5))))) == [
        "design / seed",
        "finetuned",
    ]
    assert result_table(run_of()) is None


STEPS = (("captured", 0.1), ("looped", 0.7))
