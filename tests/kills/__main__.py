"""Kill a capture at random moments and prove that nothing was lost: python -m tests.kills --kills 200 --frames 2000."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import torch
import torch.fx.experimental.symbolic_shapes

from labctl.frames.store import FrameStore
from tests.kills.capture_run import frames_of, go_on, run_undisturbed, write_protocol
from tests.kills.harness import Harness
from tests.kills.lives import begin, ended
from tests.kills.power import memory_folder


def main() -> int:
    """Exit code 1 when anything acknowledged was lost, or came out different."""
    chosen = _arguments()
    torch.set_num_threads(1)  # a parent of one thread can be forked at any moment
    with tempfile.TemporaryDirectory(dir=memory_folder() if chosen.power_cut else None) as folder:
        place = Path(folder)
        os.environ["LABCTL_STATE"], os.environ["LABCTL_CACHE"] = str(place / "state"), str(place / "cache")
        whole, run = place / "whole", place / "run"
        protocol = write_protocol(place, chosen.frames, chosen.rig)
        ended(begin(lambda: run_undisturbed(protocol, whole)))
        go_on(whole)  # finds nothing to do, and has everything loaded then
        assert len(list(Path("/proc/self/task").iterdir())) == 1, "forks of a parent with threads may hang"
        frames = len(FrameStore.open(frames_of(whole)))
        print(f"rig {chosen.rig}, {frames} frames, {chosen.kills} kills, seed {chosen.seed}", flush=True)
        began = time.monotonic()
        result = Harness(run, whole, seed=chosen.seed, power=chosen.power_cut).kill(chosen.kills)
        print(result.table())
        print(f"{time.monotonic() - began:.0f} s")
        return 1 if result.lost or result.different else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.kills", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--frames", type=int, default=2000, help="at least so many")
    share = "drop what was not synced, at every kill or at a share of them"
    parser.add_argument("--power-cut", type=float, nargs="?", const=1.0, default=0.0, metavar="SHARE", help=share)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rig", default="as-built")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
