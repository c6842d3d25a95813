"""The `calibrate` step: what is measured of a bench, in the order in which one thing stands on another."""

from protocols.calibrate.step import Calibrate

__all__ = ["Calibrate"]
