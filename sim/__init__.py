"""How light and silicon behave, differentiably: optics, panel, monitor, sensor, designs, twins, simulated devices."""
