"""Mask and classifier learn from frames that the bench measures while they learn."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from labctl.durable import write_json
from labctl.exposure import Exposure
from protocols.augmentation import augment, shift_and_flip
from protocols.capture.exposures import LIGHT_IDS, PILOT_IDS, WITNESS_IDS, check_light, white_exposure
from protocols.hardware_in_the_loop import HardwareExposer, LoopCamera, LoopExposure, RunningNormalisation
from protocols.joint_training import JointTraining, Optimisation
from protocols.keys import first_exposure_id
from protocols.loop_plan import FITTED_RULES
from protocols.model_file import answers
from protocols.models import settle_batch_norm
from protocols.splits import Split

if TYPE_CHECKING:
    from labctl.steps import StepContext
    from protocols.data import ImageSet, Pictures
    from protocols.measurement import Measurement
    from protocols.splits import IntArray
    from protocols.train import Train
    from sim.twin import Twin

BLOCK = 32
"""Scenes of one plan where no step of the training asks for them: between two looks at whether to stop."""

EXPOSURES_PER_FORWARD = 4
"""How often a design may expose in one forward pass, each with ids of its own."""

VAL_IDS = WITNESS_IDS
"""Frames of the validation split take exposure ids from here on."""

RECENT = 512
"""Measured frames that are kept at hand, from which batch statistics are taken anew at the end."""

REUSED_SHIFT_PX = 1
"""Frames that are used again are shifted by this at most, as in `finetune`: what enters at an edge was not seen."""

EXPOSURE_FILE, REUSED_FOLDER = "exposure.json", "measured"


class LoopTraining(JointTraining):
    """Joint training whose frames come from the bench. See `protocols.hardware_in_the_loop` for their slopes.

    The bench sees one mask per step. Where the mask does not learn it is shown once, and every scene is exposed once,
    unless `reuse_frames: false`. Exposure ids are keyed by step and place in the batch, so a training that goes on at
    a checkpoint gets, on a simulated bench, the frames that it would have got. fitted: twin of the bench, for the rules
    whose slope it is.
    """

    def __init__(
        self,
        step: Train,
        context: StepContext,
        data: ImageSet,
        *,
        start: Path | None = None,
        fitted: Twin | None = None,
        measurement: Measurement | None = None,
    ) -> None:
        self.context, self.images = context, data.images
        self.rows = {split: data.part(split) for split in (Split.TRAIN, Split.VAL)}
        self.first_id = first_exposure_id(context.content_hash)
        self.settled = False
        self._given = fitted if step.gradient in FITTED_RULES else None
        self._correction = measurement
        super().__init__(step, context.setting, data, start=start, twin=self._given)

    def begin(self) -> None:
        """Finds the exposure of the start mask, or the one found before an interruption, and the frames to reuse."""
        step, context = self.step, self.context
        scene_px, cells = context.setting.protocol.grids()
        roi = context.setting.rig.twin.frame_shape(cells, scene_px)
        self.camera_in_loop = LoopCamera(context.rig, (int(roi[0]), int(roi[1])))
        mask = self._mask_now()
        found = self._start_exposure(mask, scene_px)
        limits_s = context.rig.devices().camera.exposure_limits_s
        searched = step.exposure_s == "auto"
        exposure = LoopExposure(found["exposure_s"], mask, limits_s, step.fill if searched else None)
        self.pilots = int(found["exposures"])
        self.exposer = HardwareExposer(
            self.camera_in_loop,
            step.gradient,
            exposure,
            nominal=self.simulation.twin,
            fitted=self._given,
            measurement=self._correction,
            refit=self._new_refit(),
        )
        self.camera_in_loop.exposures = 0
        self.running = RunningNormalisation(self.classifier.normalisation)
        self.recent = _Recent(RECENT)
        self.reused: dict[Split, _MeasuredOnce] | None = None
        if not self.learns_mask and step.reuse_frames:
            self.reused = {split: self._measure_once(split) for split in (Split.TRAIN, Split.VAL)}
            for at in range(0, len(self.reused[Split.TRAIN]), BLOCK):
                self.running.see(self._once(Split.TRAIN, slice(at, at + BLOCK)), moving=False)
        elif self.learns_mask:
            self._moves(0)

    # What the loop calls

    def optimisation(self) -> Optimisation:
        """See `JointTraining.optimisation`; what the bench told so far belongs to the state."""
        made = super().optimisation()
        state: dict[str, Any] = {"camera": self.camera_in_loop, "running": self.running, "recent": self.recent}
        if self.exposer.refit is not None:
            state["refit"] = self.exposer.refit
        return Optimisation(made.optimisers, made.rates, {**made.state, **state})

    def one_step(self, step: int, indices: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Loss and which of the batch are right; see `run_loop`."""
        moving = self._moves(step)
        self.classifier.train(self.learns_classifier)
        labels = self.train_labels[indices.to(self.device)]
        if self.reused is not None:
            shift_px = min(self.step.augmentation.shift_px, REUSED_SHIFT_PX)
            frames = shift_and_flip(self._once(Split.TRAIN, indices), shift_px, flip=False, generator=generator)
        else:
            scenes = augment(self._scenes(Split.TRAIN, indices), self.step.augmentation, generator)
            frames = self.design(scenes, self._exposing(step, len(indices)))
            self.running.see(frames, moving=moving)
            self.recent.keep(frames)
        logits = self._network(frames)
        return self.criterion(logits, labels), logits.argmax(1) == labels

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Accuracy on the validation split: on frames that are there, and once, at the very end, on new ones."""
        values = {"aperture_ratio": float(self._mask_now().mean())} if self.learns_mask else {}
        values["exposures"] = self.pilots + self.camera_in_loop.exposures
        n = len(self.rows[Split.VAL])
        if n and (self.reused is not None or self.settled):
            right = 0
            for start in range(0, n, BLOCK):
                places = torch.arange(start, min(start + BLOCK, n))
                frames = self._once(Split.VAL, places) if self.reused is not None else self._validation_frames(places)
                right += int((answers(self.classifier, frames) == self.val_labels[places.to(self.device)]).sum())
            values["val_accuracy"] = right / n
            values["exposures"] = self.pilots + self.camera_in_loop.exposures
        return values

    def settle(self) -> None:
        """Batch statistics anew from the last measured frames: nothing moves any more."""
        if self.learns_classifier:
            settle_batch_norm(self.classifier, self._last_frames())
        self.settled = True

    def white_e(self) -> float:
        """Electrons that the twin expects in a pixel of a white scene, in the time of the last mask."""
        twin, psf = self.simulation.twin, self.simulation.psf(self._mask_now())
        rate = float(twin.photons_per_s * twin.open_area(psf)) * float(twin.settings.sensor.best_efficiency)
        return rate * self.exposure_s()

    # What the report tells

    @torch.no_grad()
    def exposure_s(self) -> float:
        """Exposure time of the mask as it stands."""
        twin = self.exposer.twin
        return float(self.exposer.exposure.time_s(twin, twin.psf(self._mask_now())))

    def told(self) -> dict[str, Any]:
        """What the bench was asked for, as metrics."""
        return {
            "gradient": self.step.gradient,
            "exposures": self.pilots + self.camera_in_loop.exposures,
            "mask_changes": self.camera_in_loop.mask_changes,
            "exposure_start_s": self.exposer.exposure.start_s,
            "exposure_s": self.exposure_s(),
        }

    def tidy(self) -> None:
        """Let go of frames that were kept to be used again."""
        for measured in (self.reused or {}).values():
            measured.remove()

    # How it does that

    def _exposing(self, step: int, items: int) -> Callable[[Tensor, Tensor], Tensor]:
        """The exposer of one forward pass. Ids: by step, place in the batch, and which exposure of the pass it is."""
        places = (step * self.schedule.batch + np.arange(items)) * EXPOSURES_PER_FORWARD
        calls = iter(range(EXPOSURES_PER_FORWARD))
        return lambda scenes, mask: self.exposer(scenes, mask, list(self.first_id + places + next(calls)))

    def _validation_frames(self, places: Tensor) -> Tensor:
        ids = self.first_id + VAL_IDS + places.numpy()
        frames = self.exposer(self._scenes(Split.VAL, places), self._mask_now(), list(ids))
        self.context.stop_here("the last checkpoint is kept")
        return self.design.readout(frames)

    def _scenes(self, split: Split, places: Tensor) -> Tensor:
        """(n, 1, H, W) radiance of these places of a split, on the device of the training."""
        return _pictures(self.images, self.rows[split][places.cpu().numpy()]).to(self.device)

    def _start_exposure(self, mask: Tensor, scene_px: tuple[int, int]) -> dict[str, Any]:
        """The exposure of the start mask and how many frames it took to find, kept for when the training goes on."""
        path = self.context.folder / EXPOSURE_FILE
        if path.exists():
            kept: dict[str, Any] = json.loads(path.read_text())
            return kept
        camera, array = self.camera_in_loop, mask.cpu().numpy()
        exposure_s = self.step.exposure_s
        if exposure_s == "auto":
            ids = self.first_id + PILOT_IDS
            exposure_s = white_exposure(camera, array, scene_px, camera.roi, self.step.fill, first_id=ids)  # type: ignore[arg-type]
        exposure = camera.devices().camera.configure(Exposure(exposure_s=exposure_s, roi=camera.roi))
        check_light(camera, array, scene_px, exposure, first_id=self.first_id + LIGHT_IDS)  # type: ignore[arg-type]
        found = {"exposure_s": exposure.exposure_s, "exposures": camera.exposures}
        write_json(path, found)
        self.context.log(f"the start mask is exposed for {exposure.exposure_s:.4g} s")
        return found

    def _new_refit(self) -> Any:
        if self.step.gradient != "learned_twin":
            return None
        from protocols.twin_fit.refit import TwinRefit

        return TwinRefit(self._given)

    def _measure_once(self, split: Split) -> _MeasuredOnce:
        """Every scene of the split through the mask, which stands still; goes on where an earlier session stopped."""
        n, first_id = len(self.rows[split]), self.first_id + (VAL_IDS if split == Split.VAL else 0)
        measured = _MeasuredOnce(
            self.context.folder / REUSED_FOLDER, split.name.lower(), n, self.camera_in_loop.roi, BLOCK
        )
        mask, exposure_s = self._mask_now(), self.exposer.exposure.start_s
        while measured.done < n:
            places = torch.arange(measured.done, min(measured.done + BLOCK, n))
            ids = list(first_id + places.numpy())
            frames = self.camera_in_loop.take(self._scenes(split, places), mask, exposure_s, ids)
            measured.append(frames.pixels, frames.exposure_s)
            self.context.progress(measured.done, n, f"{split.name.lower()} scenes")
            self.context.stop_here(f"{measured.done} of {n} {split.name.lower()} scenes are measured")
        self.camera_in_loop.exposures += measured.kept
        return measured

    def _once(self, split: Split, places: slice | Tensor) -> Tensor:
        """(n, 1, h, w) corrected and read-out frames of scenes that were measured once."""
        assert self.reused is not None
        raw, exposure_s = self.reused[split].of(places)
        frames = self.exposer.corrected(raw.to(self.device), exposure_s.to(self.device))
        return self.design.readout(frames).detach()

    def _last_frames(self) -> Tensor:
        if self.reused is None:
            return self.recent.frames
        n = len(self.reused[Split.TRAIN])
        return torch.cat([self._once(Split.TRAIN, slice(at, at + BLOCK)) for at in range(0, n, BLOCK)])


class _Recent:
    """The last frames that were measured, oldest first."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.frames = torch.empty(0)

    def keep(self, frames: Tensor) -> None:
        """Take in (N, 1, h, w)."""
        new = frames.detach()
        self.frames = (torch.cat([self.frames.to(new), new]) if len(self.frames) else new)[-self._most :]

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"frames": self.frames.cpu().clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where it was."""
        self.frames = state["frames"]


class _MeasuredOnce:
    """Raw frames of n scenes in order, on the disk: a training that is interrupted does not expose them again."""

    def __init__(self, folder: Path, name: str, n: int, shape: tuple[int, int], block: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._n, self._files = n, (folder / f"{name}.dn", folder / f"{name}.json")
        self._mark = self._files[1]
        state = json.loads(self._mark.read_text()) if self._mark.exists() else {"done": 0, "exposure_s": []}
        self.done = int(state["done"])
        self.kept = self.done
        """How many an earlier session had measured."""
        self._exposure_s: list[float] = state["exposure_s"]
        self._pixels: Any = np.zeros((0, 1, *shape), dtype=np.uint16)
        if n:
            mode: Any = "r+" if self._files[0].exists() else "w+"
            self._pixels = np.memmap(self._files[0], dtype=np.uint16, mode=mode, shape=(n, 1, *shape))

    def __len__(self) -> int:
        return self._n

    def append(self, pixels: np.ndarray, exposure_s: np.ndarray) -> None:
        """The next frames (m, 1, h, w), on the disk before they count."""
        self._pixels[self.done : self.done + len(pixels)] = pixels
        self._pixels.flush()
        self.done += len(pixels)
        self._exposure_s += exposure_s.tolist()
        write_json(self._mark, {"done": self.done, "exposure_s": self._exposure_s})

    def of(self, places: slice | Tensor) -> tuple[Tensor, Tensor]:
        """Frames (m, 1, h, w) in DN and their exposure times (m,)."""
        chosen = places if isinstance(places, slice) else places.cpu().numpy()
        times_s = np.asarray(self._exposure_s, dtype=np.float32)[chosen]
        return torch.from_numpy(np.asarray(self._pixels[chosen], dtype=np.float32)), torch.from_numpy(times_s)

    def remove(self) -> None:
        """Delete the files."""
        for file in self._files:
            with suppress(FileNotFoundError):
                file.unlink()


def _pictures(images: Pictures, rows: IntArray) -> Tensor:
    return torch.from_numpy(np.asarray(images[rows], dtype=np.float32))
