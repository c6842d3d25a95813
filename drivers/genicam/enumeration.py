"""Which cameras the producers offer, and which of them is meant. Runs in the camera's process."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from labctl.errors import HardwareError

with warnings.catch_warnings():  # the import changes the filters of the whole process
    try:
        from genicam import gentl
        from harvesters.core import Harvester, ParameterKey, ParameterSet
    except ImportError as missing:
        raise HardwareError(
            f"GenICam cameras need harvesters and genicam ({missing}); pip install 'labctl[genicam]'"
        ) from missing

Camera = dict[str, Any]

IDENTITY = {
    "id": "id_", "vendor": "vendor", "model": "model", "serial": "serial_number", "user_id": "user_defined_name",
    "version": "version", "transport": "tl_type",
}  # fmt: skip
"""What a camera is listed with, and what harvesters calls it."""


def open_producers(paths: Sequence[str]) -> tuple[Harvester, list[Camera]]:
    """Load the producers and list their cameras, in the order of the producers' own lists.

    Raises HardwareError when no producer could be loaded, with what each of them said.
    """
    heard = _Complaints()
    logger = logging.getLogger("labctl.genicam")
    logger.handlers = [heard]
    logger.propagate = False
    harvester = Harvester(config=ParameterSet({ParameterKey.LOGGER: logger}))
    for path in paths:
        harvester.add_file(path)
    harvester.update()
    cameras = [_camera(info) for info in harvester.device_info_list]
    if heard.texts and not cameras:
        raise HardwareError(
            f"the producer {', '.join(paths)} cannot be used: {'; '.join(heard.texts)}; reinstall it, and check that "
            "it is built for this computer"
        )
    return harvester, cameras


def choose(cameras: Sequence[Camera], wanted: Mapping[str, Any]) -> int:
    """Place in `cameras` of the one that fits `wanted` (serial, model, user_id; index among those that fit).

    Raises HardwareError when none fits or several do, listing what there is.
    """
    if not cameras:
        raise HardwareError("the producer finds no camera; check cable, power and network, and close other programs")
    keys = [key for key in ("serial", "model", "user_id") if wanted.get(key) is not None]
    fitting = [place for place, camera in enumerate(cameras) if all(camera[key] == wanted[key] for key in keys)]
    words = " and ".join(f"{key} {wanted[key]}" for key in keys)
    index: int | None = wanted.get("index")
    if not fitting:
        raise HardwareError(f"no camera has {words}; there are {_listed(cameras)}")
    if index is not None:
        if index >= len(fitting):
            raise HardwareError(f"camera index is {index}; 0..{len(fitting) - 1} fits; there are {_listed(cameras)}")
        return fitting[index]
    if len(fitting) > 1:
        which = f"{len(fitting)} cameras have {words}" if words else f"there are {len(fitting)} cameras"
        raise HardwareError(f"{which}: {_listed([cameras[place] for place in fitting])}; add `serial` or `index`")
    return fitting[0]


def create_camera(harvester: Harvester, place: int, buffers: int) -> Any:
    """The image acquirer of one camera. Raises HardwareError when somebody else holds it."""
    name = _listed([_camera(harvester.device_info_list[place])])
    config = ParameterSet(
        {ParameterKey.NUM_BUFFERS_FOR_FETCH_CALL: buffers, ParameterKey.ENABLE_AUTO_CHUNK_DATA_UPDATE: False}
    )
    try:
        return harvester.create(place, config=config)
    except (gentl.ResourceInUseException, gentl.AccessDeniedException) as error:
        raise HardwareError(f"the camera {name} is in use; close the program that holds it") from error
    except gentl.GenericException as error:
        raise HardwareError(f"the camera {name} cannot be opened: {error}; check its cable and power") from error


def _camera(info: Any) -> Camera:
    told = info.property_dict
    return {key: told.get(name) or "" for key, name in IDENTITY.items()}


def _listed(cameras: Sequence[Camera]) -> str:
    return ", ".join(
        f"{camera['vendor']} {camera['model']} (serial {camera['serial'] or 'not told'}"
        + (f", user id {camera['user_id']}" if camera["user_id"] else "")
        + ")"
        for camera in cameras
    )


class _Complaints(logging.Handler):
    """harvesters only logs what goes wrong while it looks for cameras."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage().splitlines()[0])
        print(self.format(record), flush=True)  # noqa: T201 - goes to the log
