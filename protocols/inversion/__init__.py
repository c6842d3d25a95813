"""Inversion of coded frames: the picture back, as somebody would try who believes to know the camera.

A `LinearCamera` (problem.py) is what is believed of a camera; a `Method` (methods.py) is how it is inverted. Those that
learn are fitted first, to pairs of pictures and frames (pairs.py), and are then inverted with in the same way.
"""
