"""Random streams named by what they are for, never by call order: a resumed training draws what it would have drawn."""

from __future__ import annotations

import hashlib


def stream_seed(*names: str | int) -> int:
    """A seed in 0..2^63-1 for the stream called `names`, for example (seed, "noise", step)."""
    text = "\x1f".join(str(name) for name in names)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


EXPOSURES_PER_STEP = 2**26


def first_exposure_id(content_hash: str) -> int:
    """First of the EXPOSURES_PER_STEP exposure ids that belong to the capture with this content hash."""
    return (int(content_hash[:9], 16)) * EXPOSURES_PER_STEP
