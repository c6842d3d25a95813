"""Cameras that read clips: training against an opponent, and what the finished camera tells and hides."""
