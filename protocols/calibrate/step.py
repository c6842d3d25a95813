"""`calibrate`: measures what is missing or stale of a bench, says why, and keeps it for this and later runs."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from labctl.calibration.record import Calibration, CalibrationRecord
from labctl.calibration.shelf import SUFFIX, Answer, Shelf
from labctl.calibration.validity import Verdict, in_words, judge
from labctl.durable import write_json
from labctl.errors import BadInput
from labctl.steps import Estimate, Role, Source, Step, StepContext, StepResult, StepSetting
from protocols.calibrate.bench import Bench, save_figure
from protocols.calibrate.dark import Dark
from protocols.calibrate.exposure import ExposureSearch
from protocols.calibrate.flat import Flat
from protocols.calibrate.kind import Kind
from protocols.calibrate.kinds import KINDS, in_order
from protocols.calibrate.monitor import Monitor
from protocols.calibrate.panel_response import PanelResponse
from protocols.calibrate.photon_transfer import PhotonTransfer
from protocols.calibrate.point_spread import PointSpread
from protocols.calibrate.registration import Registration
from protocols.calibrate.settling import Settling
from protocols.calibrate.stray_light import StrayLight
from protocols.capture.metadata import InstrumentReadings, set_instruments
from protocols.fit import check_instruments
from protocols.keys import first_exposure_id

STANDING_FILE = "standing.json"
"""What was kept, what was measured, and why."""

IDS_PER_KIND = 2**20


class Calibrate(Step):
    """Calibrates the bench; runs once, before everything else. Each kind has its settings under its own name.

    A calibration that is there and good is taken as it is. What is missing, stale, or stands on something newer is
    measured, with all that it stands on.
    """

    where: ClassVar[Literal["host", "child"]] = "host"
    once: ClassVar[bool] = True
    first: ClassVar[bool] = True
    outputs: ClassVar[Mapping[str, str]] = {"calibration": "calibration"}
    uses: ClassVar[frozenset[Source]] = frozenset({"rig"})
    needs: ClassVar[frozenset[Role]] = frozenset({"mask", "camera"})

    type: Literal["calibrate"]

    kinds: tuple[str, ...] = tuple(KINDS)
    """What is wanted; what that stands on comes along."""

    renew: bool = False
    """Measure everything anew, however good what is there may be."""

    instruments: dict[str, dict[str, float]] = {}
    """Quantities to set before, by instrument: `{lamp: {power: 0.8}}`. They are made safe with the rig."""

    settling: Settling = Settling()
    dark: Dark = Dark()
    photon_transfer: PhotonTransfer = PhotonTransfer()
    flat: Flat = Flat()
    exposure: ExposureSearch = ExposureSearch()
    stray_light: StrayLight = StrayLight()
    panel_response: PanelResponse = PanelResponse()
    monitor: Monitor = Monitor()
    registration: Registration = Registration()
    psf: PointSpread = PointSpread()

    def check(self, setting: StepSetting) -> None:
        """The kinds must exist, and the rig have the devices that they move."""
        setting.protocol.grids()
        try:
            order = in_order(self.kinds)
        except BadInput as error:
            raise BadInput(str(error), at=setting.at("kinds")) from None
        if not order:
            raise BadInput("is empty; name what to calibrate", at=setting.at("kinds"))
        for name in order:
            setting.rig.require(sorted(KINDS[name].needs), f"the calibration `{name}`")
        check_instruments(self.instruments, setting)
        if "dark" in order:
            try:
                check_instruments(self.dark.darken, setting)
            except BadInput as error:
                raise BadInput(str(error), at=setting.at("dark", "darken")) from None

    def estimate(self, setting: StepSetting) -> Estimate:
        """What would be measured now, and what would be kept."""
        shelf, newest = Shelf(setting.rig.name), dict[str, str]()
        frames, seconds, wanted, kept = 0, 1.0, dict[str, list[str]](), list[str]()
        for name in in_order(self.kinds):
            there, verdict = self._standing(name, setting, shelf, newest)
            if there is not None and verdict.good:
                newest[name] = there.id
                kept.append(name)
                continue
            newest[name] = "to be measured"
            kind = self.settings_of(name)
            exposures = kind.exposures(setting)
            frames += exposures
            seconds += kind.seconds(setting)
            wanted.setdefault(_why(verdict), []).append(f"{name} ({exposures} exposures)")
        moves = [f"calibrates {', '.join(names)}: {why}" for why, names in wanted.items()]
        moves += [f"keeps {', '.join(kept)}, which are good"] if kept else []
        shape = setting.rig.twin.frame_shape(setting.protocol.grids()[1], setting.protocol.grids()[0])
        return Estimate(seconds=seconds, frames=frames, disk_bytes=4 * frames * shape[0] * shape[1], moves=tuple(moves))

    def settings_of(self, name: str) -> Kind:
        """The settings of one kind."""
        kind: Kind = getattr(self, name)
        return kind

    def run(self, context: StepContext) -> StepResult:
        """Measure what must be measured; what was measured before an interruption is on the shelf by then."""
        setting, rig = context.setting, context.rig
        set_instruments(self.instruments, rig)
        readings = {k: v for k, v in InstrumentReadings(rig, 0.0).now().items() if v is not None}
        shelf, used, standing = Shelf(rig.spec.name), dict[str, Calibration](), dict[str, Any]()
        order = in_order(self.kinds)
        for number, name in enumerate(order):
            newest = {kind: used[kind].id for kind in used}
            there, verdict = self._standing(name, setting, shelf, newest, readings)
            fresh = there is not None and there.record.made > context_began(context)
            if there is not None and verdict.good and (not self.renew or fresh):
                age = in_words(max(0.0, time.time() - there.record.made))
                context.log(f"`{name}` is kept: {age} old, good for {in_words(there.record.max_age_s)}")
                used[name], why = there, ""
            else:
                why = "asked for anew" if verdict.good and there is not None else _why(verdict)
                context.log(f"`{name}` is measured: {why}")
                used[name] = self._measure(name, context, used, readings, number, anew=self.renew)
                shelf.put(used[name])
            standing[name] = {"id": used[name].id, "measured": bool(why), "why": why}
            for warning in used[name].record.warnings:
                context.log(f"`{name}`: {warning}")
            context.progress(number + 1, len(order), "calibrations")
        folder = context.folder / "calibration"
        for name, calibration in used.items():
            calibration.save(folder / f"{name}{SUFFIX}")
            save_figure(self.settings_of(name).draw(calibration), context.folder / "pages" / f"{name}.png")
        write_json(context.folder / STANDING_FILE, standing)
        return StepResult({"calibration": folder}, _metrics(used, standing))

    def _standing(
        self,
        name: str,
        setting: StepSetting,
        shelf: Shelf,
        newest: Mapping[str, str],
        readings: Mapping[str, float | None] | None = None,
    ) -> tuple[Calibration | None, Verdict]:
        """The calibration that counts, and how it stands: the newest, or an older one that fits better.

        So protocols with other frames or settings can take turns on one bench. Older ones count only as far back as
        the bench was this one, and nobody asked for a calibration anew.
        """
        kind, there = self.settings_of(name), shelf.newest(name)
        if there is None:
            return None, Verdict("stale", ("there is none yet",))
        scene_px, cells = setting.protocol.grids()
        shape = setting.rig.twin.frame_shape(cells, scene_px)
        oldest = time.time() - kind.max_age_s

        def judged(record: CalibrationRecord) -> Verdict:
            verdict = judge(
                record,
                setting.rig,
                readings=readings,
                version=kind.version,
                settings=kind.method(),
                holds_for={"frame_shape": list(shape), "mask_cells": list(cells), "scene_px": list(scene_px)},
                newest={before: newest[before] for before in kind.after if before in newest},
            )
            if verdict.good and record.made < oldest:
                return Verdict("stale", (f"older than {in_words(kind.max_age_s)}",))
            return verdict

        def tell(record: CalibrationRecord) -> Answer:
            verdict = judged(record)
            if verdict.good:
                return "take"
            other_bench = verdict.standing == "foreign" and setting.rig.world is None
            return "stop" if other_bench or record.anew or record.made < oldest else "pass"

        verdict = judged(there.record)
        if not verdict.good and (other := shelf.newest_that(name, tell)) is not None:
            return other, judged(other.record)
        return there, verdict

    def _measure(
        self,
        name: str,
        context: StepContext,
        used: Mapping[str, Calibration],
        readings: Mapping[str, float],
        number: int,
        *,
        anew: bool,
    ) -> Calibration:
        kind, rig, setting = self.settings_of(name), context.rig, context.setting
        scene_px, cells = setting.protocol.grids()
        bench = Bench(
            rig=rig,
            kind=name,
            scene_px=scene_px,
            cells=cells,
            frame_shape=setting.rig.twin.frame_shape(cells, scene_px),
            built_on={before: used[before] for before in kind.after},
            context=context,
            first_id=first_exposure_id(context.content_hash) + IDS_PER_KIND * number,
        )
        began = time.monotonic()
        found = kind.measure(bench)
        record = CalibrationRecord(
            kind=name,
            version=kind.version,
            settings=kind.method(),
            max_age_s=kind.max_age_s,
            holds_for=dict(found.holds_for),
            built_on={before: used[before].id for before in kind.after},
            anew=anew,
            values=dict(found.values),
            arrays={array: note for array, (_, note) in found.arrays.items()},
            warnings=found.warnings,
            **bench.provenance(beliefs=kind.beliefs, needs=kind.needs, readings=readings, began=began),
        )
        return Calibration(record, {array: values for array, (values, _) in found.arrays.items()}, dict(bench.raw))


def context_began(context: StepContext) -> float:
    """When this step of this run was begun first, in seconds since 1970: after a resume, what it made is not old."""
    path = context.folder / "began.json"
    if not path.exists():
        write_json(path, {"began": time.time()})
    began: float = json.loads(path.read_text())["began"]
    return began


def _why(verdict: Verdict) -> str:
    return "; ".join(verdict.reasons)


def _metrics(used: Mapping[str, Calibration], standing: Mapping[str, Any]) -> dict[str, Any]:
    values = {
        f"{kind}.{name}": value.value
        for kind, calibration in used.items()
        for name, value in calibration.record.values.items()
        if not isinstance(value.value, tuple)
    }
    measured = [kind for kind, how in standing.items() if how["measured"]]
    return {
        "measured": len(measured),
        "kept": len(used) - len(measured),
        "exposures": sum(used[kind].record.exposures for kind in measured),
        **values,
    }
