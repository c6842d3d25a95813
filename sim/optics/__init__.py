"""Optics: how a mask turns a scene into light on the sensor.

All functions are pure, keep the dtype of their input, and let gradients through.
"""
