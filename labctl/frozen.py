"""The base of every settings model: immutable, and strict about keys."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """Settings that cannot change after validation. Unknown keys, NaN and infinities are errors.

    Units stand in the names (`pitch_m`, `exposure_s`), limits in the types.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        validate_default=True,
        protected_namespaces=(),
    )
