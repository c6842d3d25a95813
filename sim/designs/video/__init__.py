"""Designs of cameras that read clips: optics, then electronics over time."""
