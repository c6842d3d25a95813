"""Small sets of random pictures, and studies on them, for tests. No faces."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from labctl.frames.record import FrameRecord
from labctl.frames.scenes import scene_hash, write_scenes
from labctl.study.conduct import Material, Study
from labctl.study.consent import read_consent
from labctl.study.pool import open_sets
from labctl.study.server import StudyServer
from labctl.study.settings import Given, StudySettings
from tests.labctl.frames.sets import header, record, write_set

PEOPLE = ("ann", "bea", "cem", "dan", "eva")
SHAPE = (1, 16, 16)


def picture(sample: int) -> npt.NDArray[np.float32]:
    """(1, 24, 24) radiance of sample `sample`: patches of random grey."""
    patches = np.random.default_rng([3, sample]).random((1, 6, 6), dtype=np.float32)
    return np.kron(patches, np.ones((1, 4, 4), dtype=np.float32))


def study_record(sample: int, **more: Any) -> FrameRecord:
    name = PEOPLE[sample % len(PEOPLE)]
    values = {"split": 2, "label": sample % len(PEOPLE), "label_name": name, "scene_hash": scene_hash(picture(sample))}
    return record(sample, **{**values, **more})


def make_set(
    folder: Path,
    design: str = "disc",
    *,
    frames: int = 20,
    scenes: bool = True,
    smooth: int = 1,
    records: Callable[..., FrameRecord] = study_record,
) -> Path:
    """A captured set of `frames` samples of five people. smooth: pixels over which its frames are blurred."""

    def image(index: int) -> npt.NDArray[np.uint16]:
        noise = np.random.default_rng([len(design), index]).random(SHAPE)
        blurred = sum(np.roll(noise, (a, b), axis=(1, 2)) for a in range(smooth) for b in range(smooth))
        return np.asarray(100 + 2000 * blurred / smooth**2, dtype=np.uint16)

    head = header(frames, set_id=f"set of {design}", frame_shape=SHAPE, design=design, class_names=PEOPLE)
    write_set(folder, frames, head=head, images=image, records=lambda index: records(index, design=design))
    if scenes:
        write_scenes(folder, range(frames), np.stack([picture(sample) for sample in range(frames)]))
    return folder


def settings(**more: Any) -> StudySettings:
    values = {
        "trials": 6, "choices": 3, "practice": 2, "break_every": 4, "seed": 0, "split": "test", "subtract": "nothing",
        "encoding": "linear", "turn": 0, "mirror": False, "show_names": False, "question": "Which?",
    }  # fmt: skip
    return StudySettings.model_validate({**values, **more})


def material(*sets: Path, references: Path | None = None, said: list[str] | None = None, **more: Any) -> Material:
    own = settings(**more)
    opened = open_sets([str(one) for one in sets], None if own.split == "all" else own.split, own.subtract)
    say = (said if said is not None else []).append
    return Material(opened, own, references=references, consent=read_consent(None), say=say)


@contextmanager
def served(study: Study) -> Iterator[StudyServer]:
    """A server of `study` on a free port, in a thread of its own; study and server are closed behind it."""
    with StudyServer("127.0.0.1", 0) as server:
        server.hold(study)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
            study.folder.close()


def answer(
    study: Study, code: str, *, right: bool = True, ms: float = 900.0, interrupted: bool = False
) -> dict[str, Any]:
    """Answer what this participant is asked now, rightly or wrongly."""
    number = study.state(code)["number"]
    _, trial = study.folder.participants[code].question(number)
    chosen = trial.right if right else (trial.right + 1) % len(trial.choices)
    given = {"code": code, "number": number, "chosen": chosen, "response_ms": ms, "interrupted": interrupted}
    return study.answer(Given.model_validate(given))
