"""A small rig for tests of training, loop and twin fit: 16x16 cells, 31x31 scene pixels, frames of 16x16."""

SMALL_RIG = ("twin.panel.stop_px=[64,64]", "twin.monitor.view_px=[31,31]", "twin.sensor.shape=[16,16]")
"""Overrides of `sim` and `as-built`, for protocols with 16x16 mask cells."""
