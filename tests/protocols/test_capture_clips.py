from __future__ import annotations

import numpy as np
import pytest
import torch

from labctl.errors import RunFailed
from labctl.frames.store import FrameStore
from protocols.scenes import scenes_of
from protocols.splits import Split
from protocols.video.camera_file import load_video_camera
from protocols.video.encoded import encoded
from protocols.video.encodings import load_clips
from tests.protocols.chain import Chain
from tests.protocols.test_train_video import context_of

CLIPS = (
    "data={type: moving_digits, train: 40, val: 20, test: 40, frames: 4}", "scene_px=[32,32]", "mask_cells=[5,5]",
    "designs={bdq: {type: bdq}}", "model=null",
)  # fmt: skip
KEPT = {
    "type": "train_video",
    "epochs": 1,
    "network": {"type": "small-3d", "width": 2},
    "opponent": {"type": "lenet-frame", "width": 2},
}
CAPTURE = {
    "type": "capture",
    "mask": "${steps.train.mask}",
    "train": 3,
    "val": 2,
    "test": 5,
    "exposure_s": 0.1,
    "witness": "none",
}


@pytest.fixture(scope="module")
def captured(tmp_path_factory):
    """A camera for clips that was trained for a moment, and a few clips captured with it."""
    chain = Chain(tmp_path_factory.mktemp("clips"), "sim-video", CLIPS, {})
    chain.run(train={**KEPT, "exposure_s": 0.1}, capture=CAPTURE)
    return chain


def planned_of(chain):
    from labctl.api import prepare

    return next(iter(prepare(chain.folder / "protocol.yaml", rig=chain.rig, overrides=chain.overrides)))


def test_clips_are_captured_whole_and_frame_after_frame(captured):
    store = FrameStore.open(captured.results["capture"].outputs["frames"])
    ids = store.column("sample_id")
    assert len(ids) == (3 + 2 + 5) * 4
    clip, frame = np.divmod(ids.reshape(-1, 4), 4)
    assert (clip == clip[:, :1]).all()
    assert (frame == np.arange(4)).all()
    data = scenes_of(planned_of(captured).setting.protocol)
    names = [data.class_names[data.labels[np.flatnonzero(data.sample_ids == sample)[0]]] for sample in ids]
    assert names == list(store.column("label_name"))


def test_captured_clips_are_read_as_the_simulated_ones_but_for_their_noise(captured, tmp_path):
    planned = planned_of(captured)
    context = context_of(planned, tmp_path / "c")
    data = load_clips(context)
    camera = load_video_camera(captured.results["train"].outputs["model"], planned.setting)
    frames = captured.results["capture"].outputs["frames"]
    measured = encoded(context, data, camera, Split.TEST, operator="soft", frames=frames)
    simulated = encoded(context, data, camera, Split.TEST, operator="soft")
    assert measured.clips.shape == (5, 3, 1, 32, 32)
    places = [list(simulated.clip_ids).index(clip) for clip in measured.clip_ids]
    assert torch.equal(measured.actor, simulated.actor[places])
    off = measured.clips - simulated.clips[places]
    assert float(off.abs().mean()) < 0.05
    assert float(measured.clips.std()) > 0.05


def test_a_clip_that_lost_a_frame_is_left_out_and_said(captured, tmp_path, monkeypatch):
    import dataclasses

    from protocols.video import encoded as module

    planned, said = planned_of(captured), []
    context = context_of(planned, tmp_path / "c", lambda message: said.append(message.get("text")))
    data = load_clips(context)
    camera = load_video_camera(captured.results["train"].outputs["model"], planned.setting)
    frames = captured.results["capture"].outputs["frames"]
    whole = module.labelled_frames(frames, camera.action_names)
    lost = int(data.clip_ids[data.part(Split.TEST)][0]) * 4 + 2
    assert lost in whole.sample_ids

    def without(kept):
        fields = ("frames", "labels", "splits", "sample_ids", "exposure_s")
        part = dataclasses.replace(whole, **{name: getattr(whole, name)[kept] for name in fields})
        monkeypatch.setattr(module, "labelled_frames", lambda *args: part)

    without(whole.sample_ids != lost)
    assert len(encoded(context, data, camera, Split.TEST, operator="soft", frames=frames).clips) == 4
    assert said == ["1 of 5 captured clips miss a frame, or have a marked one: left out"]
    without(whole.sample_ids % 4 != 2)
    with pytest.raises(RunFailed, match=r"holds no whole clip of this split: 5 are there in part; capture all scenes"):
        encoded(context, data, camera, Split.TEST, operator="soft", frames=frames)
