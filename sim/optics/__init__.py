"""Optics: how a mask turns a scene into light on the sensor."""
