"""Real devices behind the interfaces of `labctl.devices`: panels, GenICam cameras, VISA instruments.

Importing this package needs no vendor library; opening a device says which extra is missing.
"""
