"""Makes, from the table of features, what the C code is compiled with: the register map and the GenApi XML texts."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

from sim.virtual_lab.producer.camera_features import CHUNKS, FEATURES, PIXEL_FORMATS, Feature

REGISTER_BASE = 0x10000
"""Address of the first register."""

REGISTER_BYTES = 64
"""Distance between registers."""

MODULE_NODES: dict[str, tuple[str, tuple[tuple[str, bool, int], ...]]] = {
    "system": (
        "TLPort",
        (("TLID", True, 0), ("TLVendorName", True, 1), ("TLModelName", True, 2), ("TLVersion", True, 3)),
    ),
    "interface": ("InterfacePort", (("InterfaceID", True, 0),)),
    "device": (
        "DevicePort",
        (
            ("DeviceID", True, 0),
            ("DeviceVendorName", True, 1),
            ("DeviceModelName", True, 2),
            ("DeviceSerialNumber", True, 7),
        ),
    ),
    "stream": (
        "StreamPort",
        (
            ("StreamID", True, 0),
            ("StreamDeliveredFrameCount", False, 1),
            ("StreamLostFrameCount", False, 2),
            ("StreamAnnouncedBufferCount", False, 3),
            ("StreamInputBufferCount", False, 4),
            ("StreamOutputBufferCount", False, 5),
            ("StreamStartedFrameCount", False, 6),
            ("StreamIsGrabbing", False, 8),
        ),
    ),
}
"""Per module: name of its port, and nodes as (name, is text, GenTL info command whose answer the node reads)."""


def camera_xml(*, old_names: bool = False) -> str:
    """GenApi XML of a camera; with `old_names` in the words from before the SFNC (ExposureTimeAbs, GainRaw)."""
    hidden = "new" if old_names else "old"
    nodes: list[tuple[str, Feature, int]] = []
    categories: dict[str, list[str]] = {}
    for index, feature in enumerate(FEATURES):
        if feature.shown == hidden:
            continue
        node = feature.old_name if old_names and feature.old_name else feature.name
        nodes.append((node, feature, REGISTER_BASE + index * REGISTER_BYTES))
        if feature.category:
            categories.setdefault(feature.category, []).append(node)
    categories["ChunkDataControl"] += [f"Chunk{name}" for name in CHUNKS]
    title = "Virtual camera with old names" if old_names else "Virtual camera"
    return _rendered("camera.xml", title=title, nodes=nodes, categories=categories, chunks=list(CHUNKS.items()))


def module_xml(module: str) -> str:
    """GenApi XML of a GenTL module: `system`, `interface`, `device` (the host's side of it) or `stream`."""
    port, nodes = MODULE_NODES[module]
    placed = [(name, is_text, REGISTER_BASE + command * REGISTER_BYTES) for name, is_text, command in nodes]
    return _rendered("module.xml", model=f"Virtual{module.capitalize()}", port=port, nodes=placed)


def generated_sources() -> dict[str, str]:
    """File name to text of the C files that are made rather than written."""
    return {"register_map.h": _register_map(), "xml_files.c": _xml_files()}


_ACCESS = {"RO": "ACCESS_READ", "RW": "ACCESS_READ_WRITE", "WO": "ACCESS_WRITE"}
_KINDS = {"float": "KIND_FLOAT", "text": "KIND_TEXT", "command": "KIND_COMMAND"}


def _rendered(template: str, **values: Any) -> str:
    import jinja2

    text = (Path(__file__).parent / "templates" / template).read_text(encoding="utf-8")
    made = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True).from_string(text)
    product = uuid.uuid5(uuid.NAMESPACE_URL, f"labctl/{template}/{values.get('title') or values.get('model')}")
    xml = made.render(product=product, version="{version}", **values)
    return xml.replace("{version}", str(uuid.uuid5(product, xml)))


def _register_map() -> str:
    lines = [
        "/* Made by camera_xml.py from camera_features.py. */",
        f"#define REGISTER_BASE {REGISTER_BASE}",
        f"#define REGISTER_BYTES {REGISTER_BYTES}",
        "/* X(name, kind, access, lock, low, low register, high, high register, step, initial, initial text) */",
        "#define REGISTERS(X) \\",
    ]
    lines += [f"    {_register(feature)} \\" for feature in FEATURES]
    lines += ["", "#define PIXEL_FORMATS(X) \\"]
    lines += [f"    X({name}, {code:#010x}) \\" for name, code in PIXEL_FORMATS.items()]
    lines += ["", "#define CHUNKS(X) \\"]
    lines += [f"    X({name}, {number:#x}) \\" for name, number in CHUNKS.items()]
    return "\n".join([*lines, "", ""])


def _register(feature: Feature) -> str:
    text = feature.initial if isinstance(feature.initial, str) else ""
    number = 0 if isinstance(feature.initial, str) else feature.initial
    low, low_register = _limit(feature.low)
    high, high_register = _limit(feature.high)
    if feature.entries:
        low, high = min(value for _, value in feature.entries), max(value for _, value in feature.entries)
    lock = f"REG_{feature.lock}" if feature.lock else "NO_REGISTER"
    kind, access = _KINDS.get(feature.kind, "KIND_INTEGER"), _ACCESS[feature.access]
    limits = f"{low}, {low_register}, {high}, {high_register}, {feature.step}"
    return f'X({feature.name}, {kind}, {access}, {lock}, {limits}, {number}, "{text}")'


def _limit(value: float | str) -> tuple[float, str]:
    return (0, f"REG_{value}") if isinstance(value, str) else (value, "NO_REGISTER")


def _xml_files() -> str:
    texts = {name: module_xml(name) for name in MODULE_NODES}
    texts |= {"camera": camera_xml(), "camera_old_names": camera_xml(old_names=True)}
    lines = ["/* Made by camera_xml.py. */", '#include "xml_files.h"', ""]
    for name, text in texts.items():
        rows = [row.strip().replace("\\", "\\\\").replace('"', '\\"') for row in text.splitlines() if row.strip()]
        lines += [f"const char {name}_xml[] =", *(f'    "{row}\\n"' for row in rows), "    ;"]
        lines += [f"const unsigned long {name}_xml_bytes = sizeof {name}_xml - 1;", ""]
    return "\n".join(lines)
