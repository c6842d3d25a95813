"""Features of the virtual cameras: one table, from which the GenApi XML and the register map of the C code are made.

A feature is backed by one register of 64 bytes; its place in `FEATURES` is its address. Integers, enumerations,
booleans and commands are int64, floats are float64, texts up to 63 characters; all little-endian.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["integer", "float", "boolean", "enumeration", "command", "text"]

PIXEL_FORMATS = {
    "Mono8": 0x01080001,
    "Mono10": 0x01100003,
    "Mono10p": 0x010A0046,
    "Mono12": 0x01100005,
    "Mono12p": 0x010C0047,
    "Mono16": 0x01100007,
    "BayerRG8": 0x01080009,
    "BayerRG12": 0x01100011,
    "BayerRG12p": 0x010C0059,
}
"""Name and code of every pixel format [EMVA Pixel Format Naming Convention]."""

CHUNKS = {"ExposureTime": 0x1001, "Gain": 0x1002, "FrameID": 0x1003, "Timestamp": 0x1004}
"""Name and chunk id of every chunk: two float64 (us, dB), then two int64 (-, ns)."""

SWITCH = {"Off": 0, "Continuous": 1}
ON_OFF = {"Off": 0, "On": 1}
ACQUIRING = "TLParamsLocked"


@dataclass(frozen=True)
class Feature:
    """One node of a camera and the register behind it.

    low, high: numbers, or the feature that holds the limit now. step: increment of an integer, rounding of a float.
    lock: the feature that makes this one read-only while it is not zero. shown: which cameras have the node, those
    with `new` names, with `old` names, both, or none (the register only carries a limit).
    """

    name: str
    kind: Kind
    category: str
    tip: str
    initial: float | str = 0
    low: float | str = 0
    high: float | str = 0
    step: float = 0
    unit: str = ""
    access: Literal["RO", "RW", "WO"] = "RW"
    lock: str = ""
    entries: tuple[tuple[str, int], ...] = ()
    shown: Literal["both", "new", "old", "none"] = "both"
    old_name: str = ""


def _reading(
    name: str, category: str, tip: str, kind: Kind = "integer", initial: float | str = 0, unit: str = ""
) -> Feature:
    return Feature(name, kind, category, tip, initial, access="RO", unit=unit)


def _limit(name: str) -> Feature:
    return Feature(name, "integer", "", "Limit that moves with other features.", access="RO", shown="none")


def _choice(name: str, category: str, tip: str, entries: dict[str, int], initial: int = 0, lock: str = "") -> Feature:
    return Feature(name, "enumeration", category, tip, initial, lock=lock, entries=tuple(entries.items()))


def _command(name: str, category: str, tip: str) -> Feature:
    return Feature(name, "command", category, tip, access="WO")


def _count(name: str, tip: str) -> Feature:
    return _reading(name, "Statistics", f"{tip} Since AcquisitionStart.")


def _fault(name: str, tip: str, unit: str = "", high: float = 1_000_000) -> Feature:
    return Feature(name, "float" if unit else "integer", "FaultInjection", tip, high=high, unit=unit)


FEATURES: tuple[Feature, ...] = (
    _reading("DeviceVendorName", "DeviceControl", "Maker.", "text", "labctl"),
    _reading("DeviceModelName", "DeviceControl", "Model.", "text", "Virtual camera"),
    _reading("DeviceSerialNumber", "DeviceControl", "Serial number: VLAB0001, VLAB0002, ...", "text"),
    _reading("DeviceFirmwareVersion", "DeviceControl", "Version of the register map.", "text", "1.0"),
    Feature("DeviceUserID", "text", "DeviceControl", "Free text."),
    _reading("DeviceTemperature", "DeviceControl", "Rises from 25 to 40 in ten minutes.", "float", 25.0, "C"),
    _command("DeviceReset", "DeviceControl", "Stops, and puts every feature back to its initial value."),
    _command("TimestampLatch", "DeviceControl", "Copies the camera's clock into TimestampLatchValue."),
    _reading("TimestampLatchValue", "DeviceControl", "Clock at the last TimestampLatch: CLOCK_MONOTONIC.", unit="ns"),
    _reading("TimestampTickFrequency", "DeviceControl", "Ticks of the clock.", initial=1_000_000_000, unit="Hz"),
    _reading("SensorWidth", "ImageFormatControl", "Columns of the sensor."),
    _reading("SensorHeight", "ImageFormatControl", "Rows of the sensor."),
    _reading("WidthMax", "ImageFormatControl", "Widest frame."),
    _reading("HeightMax", "ImageFormatControl", "Highest frame."),
    Feature("Width", "integer", "ImageFormatControl", "Columns of a frame.", low=4, high="WidthLimit", step=4,
            lock=ACQUIRING),
    Feature("Height", "integer", "ImageFormatControl", "Rows of a frame.", low=2, high="HeightLimit", step=2,
            lock=ACQUIRING),
    Feature("OffsetX", "integer", "ImageFormatControl", "First column.", high="OffsetXLimit", step=4, lock=ACQUIRING),
    Feature("OffsetY", "integer", "ImageFormatControl", "First row.", high="OffsetYLimit", step=2, lock=ACQUIRING),
    _limit("WidthLimit"),
    _limit("HeightLimit"),
    _limit("OffsetXLimit"),
    _limit("OffsetYLimit"),
    _choice("PixelFormat", "ImageFormatControl", "Coding of a pixel.", PIXEL_FORMATS, PIXEL_FORMATS["Mono8"],
            ACQUIRING),
    _choice("AcquisitionMode", "AcquisitionControl", "How many frames follow AcquisitionStart.",
            {"Continuous": 0, "SingleFrame": 1, "MultiFrame": 2}, lock=ACQUIRING),
    Feature("AcquisitionFrameCount", "integer", "AcquisitionControl", "Frames of MultiFrame.", 1, 1, 65535, 1,
            lock=ACQUIRING),
    _command("AcquisitionStart", "AcquisitionControl", "Frame ids begin at 0 again."),
    _command("AcquisitionStop", "AcquisitionControl", "An exposure under way is thrown away."),
    Feature("ExposureTime", "float", "AcquisitionControl", "Exposure, rounded to 5 us.", 10_000.0, 10.0, 10_000_000.0,
            5.0, "us", lock="ExposureAuto", old_name="ExposureTimeAbs"),
    _choice("ExposureAuto", "AcquisitionControl", "Continuous: follows the mean of the last frame.", SWITCH),
    Feature("ExposurePipelineDelay", "integer", "AcquisitionControl",
            "New ExposureTime, Gain and BlackLevel act so many frames later.", high=16, step=1, lock=ACQUIRING),
    Feature("AcquisitionFrameRate", "float", "AcquisitionControl", "Pace of free run.", 30.0, 0.1, 10_000.0, unit="Hz",
            old_name="AcquisitionFrameRateAbs"),
    Feature("AcquisitionFrameRateEnable", "boolean", "AcquisitionControl",
            "Off: the next exposure begins when a frame is out.", 1, high=1),
    _choice("TriggerSelector", "AcquisitionControl", "What the trigger starts.", {"FrameStart": 0}),
    _choice("TriggerMode", "AcquisitionControl", "On: one trigger, one frame.", ON_OFF),
    _choice("TriggerSource", "AcquisitionControl", "Line0 is a socket without a cable.", {"Software": 0, "Line0": 1}),
    _command("TriggerSoftware", "AcquisitionControl", "Lost, and counted, while the camera is busy or stopped."),
    Feature("TriggerDelay", "float", "AcquisitionControl", "Trigger to exposure.", 0.0, 0.0, 1_000_000.0, unit="us"),
    Feature("Gain", "float", "AnalogControl", "Gain, rounded to 0.1 dB.", 0.0, 0.0, 24.0, 0.1, "dB", lock="GainAuto",
            shown="new"),
    Feature("GainRaw", "integer", "AnalogControl", "Gain in steps of 0.1 dB.", 0, 0, 240, 1, lock="GainAuto",
            shown="old"),
    _choice("GainAuto", "AnalogControl", "Continuous: follows the mean of the last frame.", SWITCH),
    Feature("BlackLevel", "float", "AnalogControl", "Level of no light, DN of 12 bits.", 64.0, 0.0, 1023.0, 1.0, "DN"),
    Feature("GammaEnable", "boolean", "AnalogControl", "Applies Gamma.", 0, high=1, lock=ACQUIRING),
    Feature("Gamma", "float", "AnalogControl", "DN12 -> 4095 (DN12 / 4095)^Gamma, rounded.", 1.0, 0.25, 4.0,
            lock=ACQUIRING),
    Feature("ChunkModeActive", "boolean", "ChunkDataControl", "Appends chunks to frames.", 0, high=1, lock=ACQUIRING),
    _choice("ChunkSelector", "ChunkDataControl", "Which chunk ChunkEnable is about.",
            {name: index for index, name in enumerate(CHUNKS)}),
    Feature("ChunkEnable", "boolean", "ChunkDataControl", "Appends the selected chunk.", 1, high=1, lock=ACQUIRING),
    Feature("TLParamsLocked", "integer", "TransportLayerControl", "1 while a consumer grabs.", high=1, step=1),
    _reading("PayloadSize", "TransportLayerControl", "Bytes of a frame with its chunks.", unit="B"),
    _count("StatFramesStarted", "Exposures begun: Delivered + Underrun + Dropped + Discarded, + 1 under way."),
    _count("StatDelivered", "Frames put into a buffer, incomplete ones too."),
    _count("StatIncomplete", "Frames put into a buffer and marked incomplete."),
    _count("StatUnderrun", "Frames lost for want of a queued buffer."),
    _count("StatDropped", "Frames lost by FaultDropNext."),
    _count("StatDiscarded", "Frames that no stream was grabbing, or that a stop cut short."),
    _count("StatTriggersAccepted", "Triggers that began an exposure."),
    _count("StatTriggersMissed", "Triggers lost: busy, stopped, or not in software trigger mode."),
    _count("StatBenchFailures", "Frames that the bench refused, was late with, or was not there for."),
    _fault("FaultDropNext", "So many frames get lost on the way; their ids are skipped."),
    _fault("FaultIncompleteNext", "So many frames come half filled and marked incomplete."),
    _fault("FaultDuplicateId", "So many frames repeat the id of the frame before them.", high=1000),
    _fault("FaultLateNext", "The next frame is handed over so much later.", "ms", 60_000),
    _fault("FaultStallSeconds", "For so long no exposure begins or ends.", "s", 3600),
    _fault("FaultNodeHangSeconds", "The next access to a node takes so long.", "s", 3600),
    _fault("FaultLostSeconds", "The camera is gone for so long.", "s", 3600),
    _fault("FaultLost", "1: the camera is gone until the control file says FaultLost 0.", high=1),
)  # fmt: skip
"""Order matters: it gives the addresses."""
