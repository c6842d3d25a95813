"""Real devices behind the interfaces of `labctl.devices`. No driver ships yet: rigs are simulated for now."""
