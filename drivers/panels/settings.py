"""What a rig file says of a panel: on which monitor, with what driver, checked how often."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Gt, Le, MinLen

from labctl.devices import DeviceKind, DeviceSettings, Display, OpenContext

Verify = Literal["off", "open", "every"]


class PanelSettings(DeviceSettings):
    """Common to all panel drivers."""

    kind: ClassVar[DeviceKind] = "display"
    child: ClassVar[str]
    """The module that the child process runs."""
    needs: ClassVar[tuple[str, ...]]
    """What must be importable, of the extra [slm]."""

    monitor: Annotated[int, Ge(0)] | Annotated[str, MinLen(1)]
    """Index or name as `labctl devices` lists them, `left`, `right`, `primary`, or a place such as "+1920+0"."""

    shape: tuple[Annotated[int, Gt(0)], Annotated[int, Gt(0)]] | None = None
    """(rows, columns) that the monitor must have. Write it for an SLM: a panel driven at another size is scaled."""

    display: Annotated[str, MinLen(1)] | None = None
    """The X display server, as in DISPLAY; `$NAME` is filled from the environment. None: DISPLAY itself."""

    settle_s: Annotated[float, Ge(0), Le(60)] | None = None
    """Wait after a change; None: the rig's measurement, and DEFAULT_SETTLE_S of `drivers.panels.display` before it."""

    blank_level: Annotated[int, Ge(0), Le(255)] = 0
    """What is dark, or harmless, on this panel."""

    verify: Verify = "every"
    """When the pixels are read back from the display server and compared: never, at open, or also after every `show`
    and every exposure. Only the last sees another window that comes on top later."""

    def make(self, context: OpenContext) -> Display:
        """See `DeviceSettings.make`."""
        from drivers.panels.display import PanelDisplay

        return PanelDisplay(context, self)

    def child_options(self) -> dict[str, str]:
        """What the child of this driver needs to know beside the common settings."""
        return {}


class PygameSettings(PanelSettings):
    """A full-screen window by pygame (SDL). The faster driver, and the one that needs wheels only."""

    child: ClassVar[str] = "drivers.panels.pygame_child"
    needs: ClassVar[tuple[str, ...]] = ("pygame", "mss")
    type: Literal["pygame"] = "pygame"


class SlmpySettings(PanelSettings):
    """slmPy, imported when the panel opens. It needs wxPython."""

    child: ClassVar[str] = "drivers.panels.slmpy_child"
    needs: ClassVar[tuple[str, ...]] = ("mss",)
    type: Literal["slmpy"] = "slmpy"

    module: Annotated[str, MinLen(1)] = "slmpy"
    """The module that has slmPy's class `SLMdisplay`; slmcontrol 0.0.3 has it in `slmcontrol.slm`."""

    def child_options(self) -> dict[str, str]:
        """See `PanelSettings.child_options`."""
        return {"module": self.module}
