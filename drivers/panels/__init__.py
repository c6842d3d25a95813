"""Panels that a computer's graphics output drives: SLMs and scene monitors, by a pygame window or by slmPy.

Both drivers run in a child process (`pygame_child`, `slmpy_child`) behind one `PanelDisplay`. They need an X11 display
server; importing this package needs nothing but labctl.
"""
