"""Calibrations: what was measured of a bench, with its uncertainty, and for how long and for what it holds."""
