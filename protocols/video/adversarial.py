"""Training of a camera for clips: it helps one network to tell the action, and keeps others from telling the actor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from labctl.errors import BadInput, RunFailed
from protocols.accelerator import open_fabric
from protocols.joint_training import Optimisation
from protocols.keys import stream_seed
from protocols.simulation import ExposureRule, Simulation
from protocols.splits import Split
from protocols.training_loop import Schedule, Stateful
from protocols.video.adversary import Opponents, restart, reversed_gradient
from protocols.video.camera_file import VideoCamera
from protocols.video.light import ClipExposer, measured_light
from protocols.video.recognising import shifted, some_frames
from sim.golden import Golden, golden_frame
from sim.noise import TorchDraws

if TYPE_CHECKING:
    from labctl.steps import StepContext
    from protocols.data.clips import ClipSet
    from protocols.video.train import TrainVideo
    from sim.designs.video.base import VideoDesign

VALIDATED = 256
"""Most validation clips that are looked at after every epoch."""


class History:
    """How the thresholds of the quantiser moved, (L - 1,) light of each epoch, and the losses of the present one."""

    def __init__(self) -> None:
        self.thresholds: list[list[float]] = []
        self.losses: dict[str, float] = {}
        self.seen = 0.0

    def add(self, losses: dict[str, Tensor], share: float) -> None:
        """Losses of a share of one step."""
        self.seen += share
        for name, loss in losses.items():
            self.losses[name] = self.losses.get(name, 0.0) + share * float(loss.detach())

    def means(self) -> dict[str, float]:
        """Of the epoch, which ends with this."""
        found = {f"{name}_loss": total / self.seen for name, total in self.losses.items()}
        self.losses, self.seen = {}, 0.0
        return found

    def state_dict(self) -> dict[str, Any]:
        """For checkpoints."""
        return {"thresholds": self.thresholds, "losses": self.losses, "seen": self.seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.thresholds, self.losses, self.seen = state["thresholds"], state["losses"], state["seen"]


class AdversarialTraining:
    """Everything that a step of `train_video` touches.

    One step: the camera E and the action network T go down the slope of CE(T(E)) - alpha H(P(E)), and P, on the same
    frames and before E has moved, down that of CE(P(E)). [Kumawat and Nagahara 2022; code: two passes in turn]
    """

    def __init__(self, step: TrainVideo, context: StepContext, data: ClipSet, design: VideoDesign) -> None:
        setting = context.setting
        self.step, self.seed, self.data = step, int(setting.seed or 0), data
        self.fabric = open_fabric(step.device, step.precision)
        device = self.fabric.device
        self.design = design.to(device)
        self.exposer = ClipExposer(
            Simulation(setting.rig, ExposureRule(step.fill, step.exposure_s), device=device, design=design)
        )
        self.train_rows, self.val_rows = data.part(Split.TRAIN), data.part(Split.VAL)[:VALIDATED]
        self.action, self.actor = (torch.from_numpy(labels).to(device) for labels in (data.action, data.actor))
        scene_px, cells = setting.protocol.grids()
        self.golden: Golden = golden_frame(setting.rig, cells, scene_px)
        self.scene_shape, self.twin_hash = scene_px, setting.rig.twin_hash
        height, width = setting.rig.twin.frame_shape(cells, scene_px)
        self.clip_shape = (data.frames, int(height), int(width))
        self.read_shape = read = design.read_clip_shape(self.clip_shape)
        torch.manual_seed(stream_seed(self.seed, "networks"))
        self.task: nn.Module = step.network.build(read, len(data.action_names)).to(device)
        self._new_opponent = lambda: step.opponent.build(read, len(data.actor_names)).to(device)
        self.opponents = Opponents([self._new_opponent() for _ in range(step.attackers)])
        self.alpha = step.alpha_of(setting)
        self.schedule = Schedule(len(self.train_rows), step.epochs, step.batch, self.seed)
        self.history = History()
        self._static: Tensor | None = None

    # What the loop calls

    def optimisation(self) -> Optimisation:
        """Adam for both networks, and for the camera at its own rates."""
        step = self.step
        groups = [{"params": list(self.task.parameters()), "lr": step.rate}, *self.design.parameter_groups()]
        camera = torch.optim.Adam(groups)
        opponents = torch.optim.Adam(self.opponents.parameters(), lr=step.rate)
        state: dict[str, Stateful] = {
            "design": self.design,
            "task": self.task,
            "opponents": self.opponents,
            "history": self.history,
            "camera_optimiser": camera,
            "opponents_optimiser": opponents,
        }
        self._task, wrapped = self.fabric.setup(self.task, camera)
        self._opponents_optimiser = opponents
        return Optimisation([wrapped, self.fabric.setup_optimizers(opponents)], [], state)

    def one_step(self, step: int, indices: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Sum of all losses, each with the gradients it may have, and which actions are right; see `run_loop`."""
        self.design.train()
        self.design.anneal(step / max(1, self.schedule.steps - 1))
        self.task.train()
        self.opponents.train()
        every = self.step.restart_every
        if every and step and step % every == 0:
            number = (step // every - 1) % self.step.attackers
            restart(self.opponents, number, self._new_opponent, self._opponents_optimiser, self.seed, step)
        rights, told = [], []
        parts = indices.chunk(self.step.accumulate)
        for number, part in enumerate(parts):
            share = len(part) / len(indices)
            loss, right = self._losses(step, part, share, generator)
            rights.append(right)
            told.append(share * loss)
            if number + 1 < len(parts):
                self.fabric.backward(told[-1])
        total = told[-1] + sum(part.detach() for part in told[:-1])
        return total, torch.cat(rights)

    def _losses(self, step: int, indices: Tensor, share: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        rows = torch.from_numpy(self.train_rows)[indices]
        actions, actors = self.action[rows], self.actor[rows]
        read = self.design.read_clips(self._light(indices, generator), self.step.operator)
        logits = self._task(read)
        action = nn.functional.cross_entropy(logits, actions)
        frames = some_frames(read, self.step.frames_for_privacy, generator)
        of_frames, flat = actors.repeat_interleave(frames.shape[1]), frames.flatten(0, 1)
        named = {"action": action}
        if self.step.reversal:
            named["privacy"] = self.opponents.loss(reversed_gradient(flat, self.alpha), of_frames)
            total = action + named["privacy"]
        else:
            named["entropy"] = self.opponents.entropy(flat) if self.alpha else action.new_zeros(())
            named["privacy"] = self.opponents.loss(flat.detach(), of_frames)
            total = action - self.alpha * named["entropy"] + named["privacy"]
        for name, loss in named.items():
            if not bool(torch.isfinite(loss)):
                raise RunFailed(
                    f"the {name} loss became {float(loss)} at step {step} of {self.schedule.steps}; the last "
                    "checkpoint is kept: lower `rate`, the rates of the design, or `alpha`, and look at its clips"
                )
        self.history.add(named, share)
        return total, logits.argmax(1) == actions

    def check_slopes(self) -> None:
        """Raise RunFailed where a gradient is not finite: no weight is touched then, and no bad state is kept."""
        for name, module in (("camera", self.design), ("action network", self.task), ("privacy", self.opponents)):
            for weight in module.parameters():
                if weight.grad is not None and not bool(torch.isfinite(weight.grad).all()):
                    raise RunFailed(
                        f"the slope of the loss in the {name} is not finite; the last checkpoint is kept: lower "
                        "`rate`, the rates of the design, or `alpha`"
                    )

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """How the networks of the loop do on validation clips, and where the camera stands."""
        values = self.history.means() if self.history.seen else {}
        sigma = getattr(self.design, "sigma_px", None)
        if sigma is not None:
            values["sigma_px"] = float(sigma)
        told = self.design.electronics().get("thresholds_light")
        if told is not None:
            self.history.thresholds.append(told)
        if len(self.val_rows):
            for module in (self.design, self.task, self.opponents):
                module.eval()
            generator = torch.Generator().manual_seed(stream_seed(self.seed, "validation"))
            light = measured_light(
                self.exposer, self.data.clips, self.val_rows, self.design.mask(), draws=self._draws(generator)
            )
            read = torch.cat([self.design.read_clips(part, self.step.operator) for part in light.split(64)])
            logits = torch.cat([self._task(part) for part in read.split(64)])
            values["val_accuracy"] = float((logits.argmax(1) == self.action[self.val_rows]).double().mean())
            values["val_privacy"] = self.opponents.right(read, self.actor[self.val_rows])
        return values

    def camera(self) -> VideoCamera:
        """What was trained, on the CPU."""
        self.design.anneal(1.0)
        return VideoCamera(
            design=self.design.cpu().eval(),
            exposure=self.exposer.simulation.exposure,
            action_names=self.data.action_names,
            actor_names=self.data.actor_names,
            clip_shape=self.clip_shape,
            scene_shape=self.scene_shape,
            twin_hash=self.twin_hash,
            golden=self.golden,
        )

    # How it does that

    def _light(self, indices: Tensor, generator: torch.Generator) -> Tensor:
        """(n, T, 1, h, w) light of training clips, shifted at random, through optics that learn or stand still."""
        if self.design.moving_optics:
            clips = torch.from_numpy(self.data.clips[self.train_rows[indices.numpy()]])
            shown = shifted(self.exposer.shown(clips), self.step.shift_px, generator)
            return self.exposer.light(shown, self.design.mask(), draws=self._draws(generator))
        if self._static is None:
            once = torch.Generator().manual_seed(stream_seed(self.seed, "training clips"))
            self._static = measured_light(
                self.exposer, self.data.clips, self.train_rows, self.design.mask().detach(), draws=self._draws(once)
            )
        return shifted(self._static[indices], self.step.shift_px, generator)

    def _draws(self, generator: torch.Generator) -> TorchDraws | None:
        return TorchDraws(generator) if self.step.noise else None


def check_lengths(data: ClipSet, design: VideoDesign) -> None:
    """Raise BadInput for clips that are shorter than what the camera reads."""
    if data.frames < design.span:
        raise BadInput(
            f"clips have {data.frames} frames, this camera reads {design.span} or more; set data.frames higher"
        )
