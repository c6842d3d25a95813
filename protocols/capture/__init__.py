"""The capture step: every scene through the mask, in a planned order, to the last frame."""

from protocols.capture.exposures import PILOT_IDS, white_exposure
from protocols.capture.metadata import set_instruments
from protocols.capture.step import Capture

__all__ = ["PILOT_IDS", "Capture", "set_instruments", "white_exposure"]
