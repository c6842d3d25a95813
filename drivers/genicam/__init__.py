"""Cameras behind any GenTL producer (GigE Vision, USB3 Vision, frame grabbers), through `harvesters`.

Every camera lives in a process of its own: the binding holds the interpreter lock while it waits, leaks with every
reopening, and a stale node crashes it. Commands go through a pipe, frames through a ring in shared memory.
"""
