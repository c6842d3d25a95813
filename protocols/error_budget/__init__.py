"""The `error_budget` step: how much of the difference between simulation and bench each error explains."""

from protocols.error_budget.step import ErrorBudget

__all__ = ["ErrorBudget"]
